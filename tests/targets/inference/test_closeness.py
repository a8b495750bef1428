# SPDX-License-Identifier: Apache-2.0
"""Closeness of two sets of answers, and what is made of it."""

from __future__ import annotations

import numpy as np
import pytest

from keras_kd.targets.inference.closeness import compare
from keras_kd.targets.inference.closeness import decisions

LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 9.0]])


def test_equal_answers_have_no_objection():
    close = compare({"output": LOGITS}, {"output": LOGITS})
    assert close.agreement == 1.0
    assert close.largest_difference == 0.0
    assert close.objection(None) is None
    assert close.objection(1.0) is None


def test_agreement_is_the_share_of_equal_decisions():
    found = LOGITS.copy()
    found[0] = [1.0, 1.5]
    close = compare({"output": LOGITS}, {"output": found})
    assert close.agreement == 0.75
    assert close.largest_difference == 1.0
    assert close.objection(0.75) is None
    assert "agrees on 0.7500" in close.objection(0.76)
    assert "differs in ['output']" in close.objection(None)


@pytest.mark.parametrize("gap, is_equal", [(0.9e-4, True), (9e-4, False)])
def test_equality_is_relative_to_the_value(gap, is_equal):
    found = {"output": LOGITS + gap}
    assert (compare({"output": LOGITS}, found).objection(None) is None) == (
        is_equal
    )


def test_tiny_values_are_not_equal_to_zero():
    found = {"output": np.zeros_like(LOGITS)}
    close = compare({"output": 1e-9 * LOGITS}, found)
    assert "differs" in close.objection(None)


def test_feature_taps_are_judged_by_value():
    expected = {"output": LOGITS, "h": LOGITS}
    close = compare(expected, {"output": LOGITS, "h": LOGITS + 0.1})
    assert "differs in ['h']" in close.objection(0.5)


def test_without_an_output_values_decide():
    close = compare({"h": LOGITS}, {"h": LOGITS + 0.1})
    assert close.agreement is None
    assert "differs in ['h']" in close.objection(0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    found = LOGITS.copy()
    found[2, 0] = value
    close = compare({"output": LOGITS}, {"output": found})
    assert "not finite" in close.objection(0.1)


def test_decisions_of_yes_no_units_are_their_signs():
    logits = np.array([[1.0, -1.0], [2.0, 3.0]])
    assert decisions(logits, binary=True).tolist() == [
        [True, False],
        [True, True],
    ]
    assert decisions(np.array([[-1.0], [1.0]])).tolist() == [[False], [True]]
