# SPDX-License-Identifier: Apache-2.0
"""Importance finds what was built in, and claims nothing of noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_kd.tuning.display.importance import encode
from keras_kd.tuning.display.importance import importance
from tuning import sample


def of_alpha(octave, alpha, noise):
    return 0.9 - (alpha - 0.6) ** 2 + 0.002 * noise


def of_noise(octave, alpha, noise):
    return 0.5 + 0.01 * noise


def test_importance_finds_the_setting_that_matters():
    found = importance([sample.control(0.1), *sample.trials(30, of_alpha)])
    assert list(found.shares)[0] == "alpha"
    assert found.shares["alpha"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.r2 > 0.5 and f"{found.r2:.2f}" in str(found)
    assert "A hint" in str(found) and "30 trials" in str(found)


def test_importance_survives_one_diverged_trial():
    rows = sample.trials(30, of_alpha)
    rows.append(sample.row("diverged", 3.0, 0.6, -1e6))
    assert importance(rows).shares["alpha"] > 0.8


def test_importance_claims_nothing_of_noise():
    found = [importance(sample.trials(30, of_noise, s)) for s in range(12)]
    quiet = [one for one in found if one.r2 <= 0]
    assert len(quiet) >= 9
    assert all(one.shares == {} for one in quiet)
    assert f"R2 of a random forest {quiet[0].r2:.2f}" in str(quiet[0])
    # About 1 in 20 by chance, as the caption says.
    assert sum(bool(one.shares) for one in found) <= 2


def test_importance_needs_eight_trials():
    rows = sample.trials(8, of_alpha)
    assert importance(rows).r2 is not None
    found = importance([*rows[:7], sample.row("f", 2, 0.1, None, "failed")])
    assert (found.shares, found.r2) == ({}, None)
    assert str(found).endswith("takes 8 finished trials. So far: 7.")
    assert importance([]).shares == {}


def test_importance_of_an_objective_that_never_moved():
    found = importance(sample.trials(9, lambda *_: 0.5))
    assert found.r2 is None and "did not vary" in str(found)


def test_encode_takes_logarithms_ranks_and_gaps():
    rows = [
        sample.row("00", 1.0, 0.2, 0.5, loss="b", same=1, flag=True),
        sample.row("01", 2.0, 0.4, 0.5, loss="a", same=1, flag=False),
        sample.row("02", 8.0, 0.6, 0.5, same=1, flag=False),
    ]
    names, table = encode(rows)
    assert names == ["temperature", "alpha", "loss", "flag"]
    expected = [
        [0, 0.2, 1, 1],
        [math.log(2), 0.4, 0, 0],
        [math.log(8), 0.6, math.nan, 0],
    ]
    np.testing.assert_allclose(table, expected)


def test_importance_takes_settings_that_some_trials_lack():
    rows = sample.trials(20, of_alpha)
    for row in rows[::3]:
        row.settings["units"] = 16
    assert importance(rows).shares["alpha"] > 0.8
