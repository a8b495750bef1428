# SPDX-License-Identifier: Apache-2.0
"""What the meters of all tasks promise, whatever their figures are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_kd import tasks
from keras_kd.losses.base import DistillationLoss
from tasks.task_cases import CASES


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def rows(parts, kept):
    return keras.tree.map_structure(lambda a: a[kept], parts)


def measured(case, splits=(), task=None, wrap=lambda part: part, **weights):
    meter = (task or case.task).meter()
    for part in np.split(np.arange(12), splits):
        meter.update(
            wrap(rows(case.outputs, part)),
            wrap(rows(case.labels, part)),
            wrap(rows(case.teacher, part)),
            **rows(weights, part),
        )
    return meter.result()


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value == pytest.approx(second[name], rel=1e-6), name


@pytest.mark.parametrize("splits", [(5,), (1, 2, 11)])
def test_any_split_into_batches_gives_the_same(case, splits):
    assert_same(measured(case, splits), measured(case))


def test_headline_and_agreement_are_among_the_figures(case):
    figures = measured(case)
    assert np.isfinite(figures[case.task.headline.name])
    assert np.isfinite(figures["agreement"])


def test_dict_of_one_task_is_that_task(case):
    one = tasks.get({"it": case.task})
    found = measured(case, task=one, wrap=lambda part: {"it": part})
    assert found == measured(case)
    weights = {"sample_weight": np.arange(12.0), "mask": np.arange(12) != 4}
    for given in (weights, {k: {"it": array} for k, array in weights.items()}):
        found = measured(case, task=one, wrap=lambda it: {"it": it}, **given)
        assert found == measured(case, **weights)
    assert (one.headline, one.agreement) == (
        case.task.headline,
        case.task.agreement,
    )


@pytest.mark.parametrize("form", [dict, str])
def test_dict_of_one_task_is_told_what_its_outputs_are(form):
    said = ["logits", "probabilities"]
    if form is dict:
        said = [{"it": one} for one in said]
    meter = tasks.get({"it": tasks.MultiLabel()}).meter(*said)
    ambiguous = {"it": np.array([[0.3, 0.7]])}
    meter.update(ambiguous, {"it": np.array([[1, 0]])}, ambiguous)
    # Logits above 0 say yes twice, the probabilities once.
    assert meter.result()["agreement"] == pytest.approx(0.5)


def test_two_tasks_are_measured_apart(case):
    both = tasks.get({"a": case.task, "b": case.task}, headline="b")
    found = measured(case, task=both, wrap=lambda part: {"a": part, "b": part})
    alone = measured(case)
    assert found["agreement"] == alone["agreement"]
    for name, value in alone.items():
        assert found[f"a_{name}"] == found[f"b_{name}"] == value
    assert both.headline.name == f"b_{case.task.headline.name}"


@pytest.mark.parametrize("name", ["sample_weight", "mask"])
def test_weight_of_zero_leaves_an_example_out(case, name):
    kept = np.arange(12) != 4
    without = case.task.meter()
    without.update(*(rows(p, kept) for p in _parts(case)))
    dtype = bool if name == "mask" else float
    found = measured(case, **{name: kept.astype(dtype)})
    if isinstance(case.task, tasks.Retrieval):
        # It is no query, but may still be what others find.
        assert found != measured(case)
    else:
        assert_same(found, without.result())


def _parts(case):
    return case.outputs, case.labels, case.teacher


def test_agreement_with_oneself_is_the_best_there_is(case):
    meter = case.task.meter()
    teacher = case.outputs
    if isinstance(case.task, tasks.Detection):
        teacher = {**teacher, "scores": np.ones((12, 5))}
    meter.update(case.outputs, case.labels, teacher)
    best = 0.0 if case.task.agreement.direction == "min" else 1.0
    assert meter.result()["agreement"] == pytest.approx(best, abs=1e-9)


def test_labels_are_not_needed_for_the_agreement():
    case = CASES["classification"]
    meter = case.task.meter()
    meter.update(case.outputs, np.full(12, -1), case.teacher)
    assert meter.result() == {
        "agreement": pytest.approx(measured(case)["agreement"])
    }


def test_tasks_are_frozen_small_and_equal_by_value(case):
    again = type(case.task)(**vars(case.task))
    assert again == case.task
    with pytest.raises(AttributeError):
        case.task.metric = "other"


def test_distillation_losses_are_fresh(case):
    first, second = (
        case.task.distillation_losses(),
        (case.task.distillation_losses()),
    )
    assert all(isinstance(loss, DistillationLoss) for loss in first)
    assert not {*map(id, first)} & {*map(id, second)}


def test_every_task_has_a_card():
    for task in tasks.TASKS:
        for title in ("Outputs", "Labels", "Headline", "Agreement", "Distils"):
            assert f"    {title}: " in task.__doc__, (task, title)
        assert "    Memory: " in task.__doc__
        assert "```python" in task.__doc__


def test_every_task_draws_an_example(case):
    from matplotlib.figure import Figure

    axes = np.atleast_1d(Figure().subplots(1, len(case.task.panels)))
    x = np.zeros((4, 5, 3)) if case.x is None else case.x
    outputs, labels, teacher = (rows(part, 3) for part in _parts(case))
    case.task.draw(axes, x, labels, teacher, outputs)
    for axis in axes:
        assert (
            axis.texts
            or axis.images
            or axis.lines
            or axis.get_title(loc="left")
        )
