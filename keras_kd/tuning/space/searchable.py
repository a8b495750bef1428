# SPDX-License-Identifier: Apache-2.0
"""What is searched, as users write it: numbers, and functions of `hp`."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner


@dataclasses.dataclass(frozen=True)
class Searched:
    """A hyperparameter, as a user writes it down.

    Args:
        name: Its name, in the search space and in errors.
        values: A number (fixed), a tuple `(low, high)`, or a list to choose
            from.
        default: What a search starts from; brought into the range.
        is_share: Whether it lies in `[0, 1]`, and a range is searched
            linearly; else it is positive, and searched by logarithm.

    Raises:
        ValueError: If `values` is not one of these, or out of bounds.
    """

    name: str
    values: Any
    default: float
    is_share: bool = False

    def __post_init__(self):
        is_range = isinstance(self.values, tuple)
        is_list = isinstance(self.values, list)
        values = self.values if is_range or is_list else [self.values]
        fits = len(values) > 0 and all(map(self._allows, values))
        if fits and is_range:
            fits = len(values) == 2 and values[0] < values[1]
        if not fits:
            raise ValueError(
                f"`{self.name}` must be a number, a tuple (low, high) with "
                "low < high, or a list of numbers to choose from, all in "
                f"{'[0, 1]' if self.is_share else '(0, inf)'}. "
                f"Received: {self.name}={self.values!r}"
            )

    def _allows(self, value):
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return False
        return 0 <= value <= 1 if self.is_share else 0 < value < math.inf

    def ask(self, hp: keras_tuner.HyperParameters) -> float:
        """Returns the value of a trial, adding the number to its space."""
        if isinstance(self.values, tuple):
            low, high = map(float, self.values)
            return hp.Float(
                self.name,
                low,
                high,
                sampling="linear" if self.is_share else "log",
                default=min(max(self.default, low), high),
            )
        if isinstance(self.values, list):
            values = list(map(float, self.values))
            default = self.default if self.default in values else values[0]
            return hp.Choice(self.name, values, default=default)
        return hp.Fixed(self.name, float(self.values))


def is_choice(distillation_losses: Any) -> bool:
    """Returns whether losses are given as a function of `hp`."""
    kinds = (keras.losses.Loss, keras.distillation.DistillationLoss, type)
    is_loss = isinstance(distillation_losses, kinds)
    return callable(distillation_losses) and not is_loss


def takes_hp(build_student: Callable) -> bool:
    """Returns whether a function that builds students asks for `hp`.

    Raises:
        ValueError: If it is not a function, or needs anything else.
    """
    if not callable(build_student) or isinstance(build_student, keras.Model):
        raise ValueError(
            "`build_student` must be a function that returns a new "
            "keras.Model and takes `hp` or nothing. Received: "
            f"{type(build_student).__module__}.{type(build_student).__name__}"
            + (
                ". Write `lambda: build()` around what builds it."
                if isinstance(build_student, keras.Model)
                else ""
            )
        )
    signature = inspect.signature(build_student)
    # One that is called so is given, even where it could be left out.
    asks = next(iter(signature.parameters), None) == "hp"
    for takes in (asks, not asks):
        with contextlib.suppress(TypeError):
            signature.bind(*[None] * takes)
            return takes
    parameters = signature.parameters.values()
    raise ValueError(
        "`build_student` must take `hp` or nothing. Received a function that "
        f"needs {[p.name for p in parameters if p.default is p.empty]}. Fix "
        "the others with functools.partial."
    )
