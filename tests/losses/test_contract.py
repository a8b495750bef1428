# SPDX-License-Identifier: Apache-2.0
"""Every method keeps the contract, has a twin, and explains itself."""

from __future__ import annotations

import inspect
import pydoc
import re

import pytest

import reference
from cases import CASES
from keras_kd import losses
from keras_kd.losses.cards import card_of
from keras_kd.testing import check_loss
from keras_kd.testing import loss_training
from selection import slow

each_method = pytest.mark.parametrize("method", losses.METHODS)


def snake_case(method):
    return re.sub(r"(?<=.)([A-Z])", r"_\1", method.__name__).lower()


def first_and_other_cases():
    """Returns the first case of each method, and those that repeat it."""
    methods = [case.method for case in CASES]
    first = [methods.index(method) for method in dict.fromkeys(methods)]
    groups = {True: [], False: []}
    for number, case in enumerate(CASES):
        # A dynamic ranking is another program than a static one.
        groups[number in first or case.note == "dynamic"].append(case)
    return groups[True], groups[False]


FIRST, OTHERS = first_and_other_cases()


@pytest.mark.parametrize("case", FIRST + [slow(c) for c in OTHERS], ids=str)
def test_method_keeps_the_contract(case):
    loss = case.method(**case.arguments)
    check_loss(loss, reference=case.reference, **case.checks)


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_method_keeps_what_it_promises_of_its_values(case, monkeypatch):
    """In its other settings; compiling them takes most of the time."""
    monkeypatch.setattr(loss_training, "CHECKS", ())
    loss = case.method(**case.arguments)
    check_loss(loss, reference=case.reference, **case.checks)


@each_method
def test_method_has_a_case_and_a_twin(method):
    assert method in [case.method for case in CASES]
    assert inspect.isfunction(getattr(reference, snake_case(method)))


@each_method
def test_method_has_a_pure_function_beside_it(method):
    function = getattr(losses, snake_case(method))
    assert function.__module__ == method.__module__


@each_method
@pytest.mark.parametrize(
    "heading", ["Idea: ", "Shapes: ", "Use it: ", "Do not: ", "Suggested: "]
)
def test_help_of_a_method_shows_its_card(method, heading):
    shown = pydoc.plain(pydoc.render_doc(method))
    assert re.search(rf"^ \|  {heading}\S", shown, re.MULTILINE)
    assert re.search(r" Paper: [^\n]+ \d{4}, https://\S+\n", shown)


@each_method
def test_card_holds_whole_sentences(method):
    card = card_of(method)
    assert card.paper.rpartition(" ")[2].startswith("https://")
    for text in (card.shapes, card.use, card.avoid, card.suggested):
        assert text.endswith("."), text


def test_card_needs_every_line():
    class Silent(losses.DistillationLoss):
        """Says nothing of itself."""

    with pytest.raises(ValueError, match="Silent must have the lines"):
        card_of(Silent)


@each_method
def test_method_is_found_by_its_name(method):
    assert type(losses.get(method.__name__)) is method
    assert type(losses.get(snake_case(method))) is method


def test_methods_and_names_are_sorted():
    names = [method.__name__ for method in losses.METHODS]
    assert names == sorted(names)
    assert list(losses.__all__) == sorted(losses.__all__)
    assert set(names) <= set(losses.__all__)


@pytest.mark.parametrize("identifier", ["soft", 3, None, object])
def test_get_refuses_anything_else(identifier):
    with pytest.raises(ValueError, match="Expected a distillation loss"):
        losses.get(identifier)
