# SPDX-License-Identifier: Apache-2.0
"""How a long training chooses the settings of its step, once it begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_kd.targets.cache import TeacherCache
from keras_kd.training.step_input import BATCHES_KEPT
from keras_kd.training.step_input import first_rows
from keras_kd.training.step_race import replayed
from keras_kd.training.step_tuning import fastest_step

MEASURED = "measured"
MEASURED_FROM = 4_000
"""Steps of a training from which on it is worth measuring its step."""
CANDIDATES = (16,)
"""Values of `steps_per_execution` that are tried beside the model's own."""


def check_step(step: str | None) -> None:
    """Raises unless it is `"measured"` or `None`."""
    if step not in (MEASURED, None):
        raise ValueError(
            f"`step` must be {MEASURED!r} or None. Received: step={step!r}"
        )


def look_at(
    arguments: dict[str, Any],
    split: Any,
    batch_size: int,
    labels: TeacherCache | None = None,
) -> tuple[int, Callable[[], Any] | None]:
    """Returns the steps of an epoch, and what gives data to measure with.

    A data set is begun once for both, measured or not, so what it shuffles
    in training does not depend on that. Sets that the labels of a cache are
    attached to count their epochs; another one is made for the measuring.

    Args:
        arguments: Those of `fit`, for one epoch.
        split: The training split that they come from.
        batch_size: Examples in a step, for arrays.
        labels: The cache whose targets are attached.

    Returns:
        The number, and a function without arguments; `None` instead of it
        where Keras would round the steps of an epoch up.
    """
    x = arguments["x"]
    if "steps_per_epoch" in arguments:
        return arguments["steps_per_epoch"], None
    if labels is not None and not isinstance(split, tf.data.Dataset):
        rows = first_rows(tuple(split), batch_size)
        return int(x.cardinality()), lambda: labels.attach(
            rows,
            batch_size,
            seed=0,  # drawing one would move the random state
        )
    if not isinstance(x, tf.data.Dataset):
        y = arguments["y"]
        return math.ceil(len(y) / batch_size), lambda: (x, y)
    count, kept = 0, []
    for batch in x:
        count += 1
        if len(kept) < BATCHES_KEPT:
            kept.append(batch)
    return count, lambda: replayed(kept, x.element_spec)


def measure_step(
    model: keras.Model, sample: Any, batch_size: int, steps: int
) -> str | None:
    """Sets the fastest exact step; returns what was chosen, in one line.

    Args:
        model: The compiled model that is about to be trained.
        sample: Data to measure with.
        batch_size: Examples in a step, where it holds arrays.
        steps: Steps of the training: a longer compilation must be repaid by
            then.
    """
    settings = fastest_step(
        model, sample, batch_size, CANDIDATES, verbose=False
    )
    if settings.repaid_after > steps:
        return None
    settings.apply(model)
    # It is traced for such batches, and nothing has been changed since.
    model.train_function = settings.step
    return str(settings)
