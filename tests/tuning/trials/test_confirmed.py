# SPDX-License-Identifier: Apache-2.0
"""What the best settings are worth on fresh seeds, in figures and words."""

from __future__ import annotations

import json

import pytest

from keras_kd.evaluation import gain
from keras_kd.tuning.trials.confirmed import Confirmed

BEST = [0.92, 0.93, 0.91]
DEFAULT = [0.92, 0.91, 0.92]
CONTROL = [0.88, 0.89, 0.88]


def confirmed(**changes):
    return Confirmed(
        **{
            **{"best": BEST, "default": DEFAULT, "control": CONTROL},
            **{"seeds": [5, 6, 7], "objective": "val_accuracy"},
            **{"settings": {"temperature": 2.5, "alpha": 0.9}},
            **changes,
        }
    )


@pytest.mark.parametrize("side", ["default", "control"])
def test_best_minus_equals_the_paired_gain(side):
    found = confirmed().best_minus(side)
    expected = gain.paired_gain(getattr(confirmed(), side), BEST)
    for name in ("mean", "low", "high", "deviation"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))
    assert (found.verdict, found.n) == (expected.verdict, 3)


def test_confirmed_says_no_gain_and_gain():
    text = str(confirmed())
    assert "temperature 2.5, alpha 0.9" in text and "3 fresh paired" in text
    assert "Best minus default: +0.33 points" in text
    assert "do not show that the search beat the default" in text
    assert "Best minus control: +3.67 points" in text
    assert "(best 92.00 %, control 88.33 %). Gain:" in text
    assert "may flatter them" in text


def test_confirmed_says_worse():
    text = str(confirmed(default=[0.95, 0.96, 0.95], control=[0.95] * 3))
    assert "Worse: keep the default settings." in text
    assert "Worse: train without the teacher." in text


def test_confirmed_believes_the_test_split():
    test = {"best": [0.80, 0.80, 0.81], "control": [0.85, 0.86, 0.86]}
    found = confirmed(test=test)
    assert found.split == "test"
    assert found.best_minus("control", "test").verdict == "worse"
    assert found.best_minus("control").verdict == "gain"
    assert found.best_minus("default", "test") is None
    text = str(found)
    assert "on the test split" in text and "flatter" not in text
    assert "Best minus control: -5.33 points" in text
    assert "The default was not run again" in text


def test_confirmed_of_an_error_is_better_when_lower():
    found = confirmed(
        best=[1.0, 1.1, 1.0],
        default=[2.0, 2.1, 2.1],
        control=[0.5, 0.6, 0.4],
        objective="val_mean_absolute_error",
        direction="min",
    )
    assert found.best_minus("default").verdict == "gain"
    assert found.best_minus("default").mean == pytest.approx(-1.0333, abs=1e-4)
    assert found.best_minus("control").verdict == "worse"
    text = str(found)
    assert "lower is better" in text and "Best minus default: -1.033," in text
    assert "points" not in text and "%, " not in text


def test_confirmed_of_one_seed_may_be_chance():
    found = confirmed(best=[0.9], default=[0.8], control=[], seeds=[5])
    text = str(found)
    assert "One seed: no spread known" in text and "one fresh seed" in text
    assert "The control was not run again" in text


def test_confirmed_round_trip_through_json():
    found = confirmed(test={"best": BEST})
    text = json.dumps(found.to_json())
    assert Confirmed(**json.loads(text)) == found


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"best": [0.9]}, "one finite value per seed for 'best'"),
        ({"control": [0.9, 0.9]}, "for 'control' on the validation"),
        ({"default": [0.9, 0.9, float("nan")]}, "for 'default'"),
        ({"test": {"best": [0.9]}}, "for 'best' on the test"),
    ],
)
def test_confirmed_refuses_bad_input(changes, text):
    with pytest.raises(ValueError, match=text):
        confirmed(**changes)
