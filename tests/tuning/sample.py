# SPDX-License-Identifier: Apache-2.0
"""Rows of a search that never ran, one of each kind among them."""

from __future__ import annotations

import numpy as np

from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.tuning.trials.trial_record import TrialRecord

HOSTILE = "<script>alert('x|y')</script>[red]"
CONFIRMED = Confirmed(
    best=[0.92, 0.93, 0.91],
    default=[0.90, 0.91, 0.90],
    control=[0.88, 0.89, 0.88],
    seeds=[5, 6, 7],
    settings={"temperature": 2.5, "alpha": 0.9},
    objective="val_accuracy",
)


def row(name, temperature, alpha, value, status="completed", **settings):
    """Returns a trial that took two epochs and 2.5 seconds."""
    settings = {"temperature": temperature, "alpha": alpha, **settings}
    history = {} if value is None else {"val_accuracy": [value - 0.1, value]}
    return TrialRecord(name, settings, status, value, history, 2.5)


def control(value=0.85):
    return TrialRecord(
        "control", {}, "completed", value, {"val_accuracy": [value]}, 2
    )


def trials(count, objective, seed=0):
    """Returns rows whose objective is `objective(log2 T, alpha, noise)`."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        octave, alpha = random.uniform(0, 4), random.uniform()
        value = objective(octave, alpha, random.normal())
        rows.append(
            row(f"{index:02d}", float(2**octave), float(alpha), float(value))
        )
    return rows


def hill(octave, alpha, noise):
    """Best at T = 4 and alpha = 0.7, worth 90 % there."""
    return 0.9 - 0.01 * (octave - 2) ** 2 - 0.05 * abs(alpha - 0.7)


def mixed():
    """Returns rows of every status, one without alpha, one with a bad name."""
    rows = [control(), *trials(9, hill)]
    rows.append(row("09", 8.0, 0.4, 0.80, "stopped early"))
    failed = row("10", 2.0, 0.1, None, "failed")
    rows.append(
        TrialRecord(
            **{**vars(failed), "message": f"ValueError: {HOSTILE}\nmore"}
        )
    )
    rows.append(row("11", 3.0, 0.3, None, "running"))
    without = row("12", 5.0, 0.0, 0.86)
    del without.settings["alpha"]
    rows.append(without)
    rows.append(row(HOSTILE, 6.0, 0.6, 0.87))
    return rows
