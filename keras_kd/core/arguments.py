# SPDX-License-Identifier: Apache-2.0
"""Checks of plain arguments, before anything is done with them."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raises a ValueError unless it is a whole number of at least `least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. "
            f"Received: {name}={value!r}"
        )


def check_number(
    name: str, value: Any, low: float = 0.0, high: float = math.inf
) -> None:
    """Raises a ValueError unless it is a number in `[low, high]`, not 0.

    0 is allowed where `high` is finite.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    is_open = math.isinf(high)
    if is_number and low <= value <= high and math.isfinite(value):
        if value > low or not is_open:
            return
    wanted = "above 0" if is_open else f"from {low:g} to {high:g}"
    hint = ""
    if callable(value):
        hint = (
            f" A schedule of {name} goes to a Distiller: "
            "fit(..., callbacks=[kd.callbacks.Schedule(...)])."
        )
    raise ValueError(
        f"`{name}` must be a number {wanted}. Received: {name}={value!r}.{hint}"
    )


def check_learning_rate(name: str, value: Any) -> None:
    """Raises a ValueError unless it is a number above 0 or a schedule."""
    # The command line reads this file before TensorFlow is loaded.
    import keras

    kind = keras.optimizers.schedules.LearningRateSchedule
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if isinstance(value, kind) or (is_number and 0 < value < math.inf):
        return
    raise ValueError(
        f"`{name}` must be a number above 0 or a "
        "keras.optimizers.schedules.LearningRateSchedule. "
        f"Received: {name}={value!r}"
    )


def check_sparsity(name: str, value: Any) -> None:
    """Raises a ValueError unless it is `None` or a share in `[0, 1)`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if value is None or (is_number and 0 <= value < 1):
        return
    percent = is_number and 1 < value < 100
    hint = f" For {value:g} % write {value / 100:g}." if percent else ""
    raise ValueError(
        f"`{name}` is the share of weights to set to zero, a number from 0 to "
        f"below 1, or None. Received: {name}={value!r}.{hint}"
    )


def check_seeds(name: str, value: Any) -> None:
    """Raises a ValueError unless it lists different whole numbers."""
    listed = not isinstance(value, str) and isinstance(value, Iterable)
    seeds = list(value) if listed else []
    whole = all(
        isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
        for seed in seeds
    )
    if (
        seeds
        and whole
        and min(map(int, seeds)) >= 0
        and len(set(seeds)) == len(seeds)
    ):
        return
    hint = ""
    if isinstance(value, numbers.Integral) and value == 0:
        hint = f" For seed 0 alone write {name}=(0,)."
    elif isinstance(value, numbers.Integral) and 0 < int(value) < 100:
        hint = f" For {value} seeds write {name}={tuple(range(int(value)))}."
    raise ValueError(
        f"`{name}` must hold at least one seed, each a different whole number "
        f"from 0 up. Received: {name}={value!r}.{hint}"
    )


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Returns a sentence with near names, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=3)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
