# SPDX-License-Identifier: Apache-2.0
"""Formatting: objectives, settings and times of a search as short text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_kd.report.table import MISSING
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import TrialRecord

# Always shown, and first, as they are what a search is for.
FIRST = ("temperature", "alpha")


_FRACTIONS = "accuracy iou f1 auc precision recall ndcg r2".split()


def scale_of(objective: str) -> float:
    """Returns 100 for a fraction, which is shown in percent, else 1."""
    is_fraction = any(part in objective for part in _FRACTIONS)
    return 100.0 if is_fraction else 1.0


def title_of(objective: str) -> str:
    """Returns the objective with its unit: `"val_accuracy (%)"`."""
    return f"{objective} (%)" if scale_of(objective) == 100 else objective


def without_unit(value: float | None, objective: str) -> str:
    """Returns a value of the objective without its unit."""
    if value is None:
        return MISSING
    scale = scale_of(objective)
    return f"{value * scale:.2f}" if scale == 100 else f"{value:.4g}"


def with_unit(value: float, objective: str) -> str:
    """Returns a value of the objective with its unit."""
    unit = " %" if scale_of(objective) == 100 else ""
    return without_unit(value, objective) + unit


def change(difference: float, objective: str) -> str:
    """Returns a difference, scaled already, with its unit: `"+1.2 points"`."""
    unit = " points" if scale_of(objective) == 100 else ""
    return f"{difference:+.3g}{unit}"


def setting(value: Any) -> str:
    """Returns the value of a hyperparameter, floats to three digits."""
    if value is None:
        return MISSING
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(settings: dict[str, Any]) -> str:
    """Returns `"temperature 3.2, alpha 0.41"`."""
    names = [name for name in FIRST if name in settings]
    names += [name for name in settings if name not in FIRST]
    return ", ".join(f"{name} {setting(settings[name])}" for name in names)


def names_of(rows: Sequence[TrialRecord]) -> list[str]:
    """Returns the hyperparameters to show: T, alpha, and those that vary."""
    taught = [row.settings for row in rows if row.name != CONTROL]
    names = dict.fromkeys(name for found in taught for name in found)
    varying = [
        name
        for name in names
        if name not in FIRST
        and len({repr(found.get(name)) for found in taught}) > 1
    ]
    return [name for name in FIRST if name in names] + varying


def clock(seconds: float) -> str:
    """Returns a length of time in its two largest units."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
