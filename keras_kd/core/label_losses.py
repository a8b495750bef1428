# SPDX-License-Identifier: Apache-2.0
"""Losses on labels, told apart by the name of the function they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

CLASS_NUMBERS = "sparse_categorical_crossentropy"
OF_ROWS = ("categorical_crossentropy", "categorical_focal_crossentropy")
OF_CLASSES = (CLASS_NUMBERS, *OF_ROWS)
OF_UNITS = ("binary_crossentropy", "binary_focal_crossentropy")
OF_VALUES = (
    "huber",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
)


def loss_function(loss: Any) -> Callable | None:
    """Returns what a `compile` loss computes, `None` unless it is one loss.

    Also of a `functools.partial`. `None` for "crossentropy", of which Keras
    chooses the kind when it sees labels.
    """
    leaves = keras.tree.flatten(loss)
    if len(leaves) != 1 or is_chosen_by_keras(leaves[0]):
        return None
    loss = keras.losses.get(leaves[0])
    loss = getattr(loss, "fn", loss)
    return getattr(loss, "func", loss)


def loss_name(loss: Any) -> str | None:
    """Returns the snake-case name of a `compile` loss, if it is one loss.

    That of a function of the user's ends in "(own)": called as one of Keras'
    it need not be like it.
    """
    name = getattr(loss_function(loss), "__name__", None)
    return f"{name} (own)" if name and is_own(loss) else name


def is_own(loss: Any) -> bool:
    """Whether a `compile` loss is none of Keras' own, whatever its name."""
    function = loss_function(loss)
    module = getattr(function, "__module__", "keras")  # none: Keras chooses
    return module.split(".")[0] != "keras"


def is_chosen_by_keras(loss: Any) -> bool:
    """Whether Keras chooses a cross-entropy by the labels."""
    return str(loss).lower() in ("crossentropy", "ce")


def counted_from_one(labels: np.ndarray, classes: int | None) -> str:
    """Returns what to do about labels from 1 to `classes`; "" for others."""
    known = labels[labels >= 0]
    ends = (known.min(), known.max()) if known.size else None
    if classes != 1 and ends == (1, classes):
        return f" Labels from 1 to {classes} are class ids plus 1: give y - 1."
    return ""
