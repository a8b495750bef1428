# SPDX-License-Identifier: Apache-2.0
"""The gain against its closed form, and the words it is told in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from keras_kd.core.records import StageRecord
from keras_kd.evaluation import gain

CONTROL = [0.900, 0.910, 0.890, 0.905]
DISTILLED = [0.921, 0.918, 0.915, 0.920]


def test_paired_gain_equals_the_closed_form():
    found = gain.paired_gain(CONTROL, DISTILLED)
    # 2.1, 0.8, 2.5, 1.5 points: mean 1.725, squares add up to 1.6475.
    assert found.mean == pytest.approx(1.725)
    assert found.deviation == pytest.approx((1.6475 / 3) ** 0.5)
    # 3.182446 is Student's t at 97.5 % for 3 degrees of freedom.
    half = 3.182446 * (1.6475 / 3) ** 0.5 / 2
    assert found.low == pytest.approx(1.725 - half, abs=1e-5)
    assert found.high == pytest.approx(1.725 + half, abs=1e-5)
    assert found.n == 4
    assert found.control == pytest.approx(90.125)
    assert found.distilled == pytest.approx(91.85)


def test_paired_gain_equals_scipy():
    found = gain.paired_gain(CONTROL, DISTILLED)
    test = stats.ttest_rel(100 * np.array(DISTILLED), 100 * np.array(CONTROL))
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(interval))


@pytest.mark.parametrize(
    ("distilled", "verdict", "word"),
    [
        ([0.93, 0.94, 0.925, 0.935], "gain", "Gain:"),
        ([0.91, 0.90, 0.90, 0.90], "no gain", "No gain:"),
        (CONTROL, "no gain", "No gain:"),
        ([0.87, 0.88, 0.86, 0.87], "worse", "Worse:"),
    ],
)
def test_paired_gain_verdict_in_words(distilled, verdict, word):
    found = gain.paired_gain(CONTROL, distilled)
    assert found.verdict == verdict
    assert word in str(found)


def test_paired_gain_of_a_positive_mean_may_be_no_gain():
    found = gain.paired_gain([0.90, 0.90, 0.90], [0.95, 0.90, 0.90])
    assert found.mean > 1
    assert found.verdict == "no gain"


def test_no_end_of_an_interval_reads_as_minus_nothing():
    found = gain.paired_gain([0.90001, 0.90001], [0.9, 0.9])
    assert -0.005 < found.low < 0
    assert "-0.00" not in str(found) and "+0.00 to +0.00" in str(found)


def test_paired_gain_of_one_seed_has_no_interval():
    found = gain.paired_gain([0.90], [0.95])
    assert found.mean == pytest.approx(5)
    assert (found.low, found.high, found.deviation) == (None, None, None)
    assert found.verdict == "one seed: no spread known"
    assert "may be chance" in str(found)


@pytest.mark.parametrize(
    ("control", "distilled", "text"),
    [
        ([0.9, 0.9], [0.9], "one accuracy per seed"),
        ([], [], "one accuracy per seed"),
        ([90.0], [91.0], "must be fractions"),
        ([0.9], [float("nan")], "must be fractions"),
    ],
)
def test_paired_gain_refuses_bad_input(control, distilled, text):
    with pytest.raises(ValueError, match=text):
        gain.paired_gain(control, distilled)


def record(stage, accuracies, seeds):
    metrics = {"accuracies": accuracies, "seeds": seeds}
    return StageRecord(stage, stage, metrics=metrics)


def test_gain_of_pairs_the_records():
    control = record("control", CONTROL, [0, 1, 2, 3])
    student = record("student", DISTILLED, [0, 1, 2, 3])
    expected = gain.paired_gain(CONTROL, DISTILLED)
    assert gain.gain_of([student, control]) == expected
    assert gain.gain_of([student]) is None


def test_gain_of_refuses_other_seeds():
    control = record("control", CONTROL, [0, 1, 2, 3])
    student = record("student", DISTILLED, [3, 2, 1, 0])
    with pytest.raises(ValueError, match="must share their seeds"):
        gain.gain_of([control, student])
