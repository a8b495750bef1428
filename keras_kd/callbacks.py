# SPDX-License-Identifier: Apache-2.0
"""Schedules for alpha and temperature."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras


class Schedule(keras.callbacks.Callback):
    """Sets a number of the distiller at the start of every epoch.

    The value depends on the epoch alone, so a run that is resumed goes on
    where it was. Setting it retraces nothing; it is logged under its name.

    Args:
        attribute: `"alpha"`, `"temperature"`, or another number of the model.
        schedule: Function from the epoch (0 for the first) to the value;
            `linear`, `cosine` and `progressive` make common ones.

    Example:

    ```python
    warm_up = kd.callbacks.Schedule("alpha", kd.callbacks.linear(0, 0.9, 5))
    cooling = kd.callbacks.Schedule(
        "temperature", kd.callbacks.cosine(8, 1, 20)
    )
    distiller.fit(x, y, epochs=20, callbacks=[warm_up, cooling])
    ```
    """

    def __init__(self, attribute: str, schedule: Callable[[int], float]):
        super().__init__()
        if not callable(schedule):
            raise ValueError(
                "`schedule` must be a function of the epoch, such as "
                "keras_kd.callbacks.linear(0.0, 0.9, epochs=5). "
                f"Received: schedule={schedule!r}"
            )
        self.attribute = attribute
        self.schedule = schedule

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, self.attribute):
            raise ValueError(
                f"The model '{self.model.name}' has no '{self.attribute}' to "
                "schedule. Expected a Distiller and 'alpha' or 'temperature'."
            )

    def on_epoch_begin(self, epoch, logs=None):
        setattr(self.model, self.attribute, self.schedule(epoch))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs[self.attribute] = getattr(self.model, self.attribute)


def linear(start: float, end: float, epochs: int) -> Callable[[int], float]:
    """Goes from `start` in epoch 0 to `end` in epoch `epochs`, then stays.

    Example: a warm-up of alpha is `linear(0.0, 0.9, epochs=5)`.
    """
    _check_epochs(epochs)
    return lambda epoch: start + (end - start) * min(epoch / epochs, 1.0)


def progressive(end: float, epochs: int) -> Callable[[int], float]:
    """Is 0 in the first of `epochs`, then their share of `end` (PS-KD).

    Epoch e, from 0, gets `end * (e + 1) / epochs`: the last one gets `end`.

    Example:

    ```python
    list(map(kd.callbacks.progressive(0.8, 4), range(4)))   # 0, .4, .6, .8
    ```
    """
    _check_epochs(epochs)
    return lambda epoch: end * min((epoch + 1) / epochs, 1.0) * (epoch > 0)


def cosine(start: float, end: float, epochs: int) -> Callable[[int], float]:
    """Goes from `start` to `end` along half a cosine, then stays at `end`."""
    _check_epochs(epochs)

    def value(epoch):
        angle = math.pi * min(epoch / epochs, 1.0)
        share = (1.0 - math.cos(angle)) / 2.0
        return start + (end - start) * share

    return value


def _check_epochs(epochs):
    if epochs < 1:
        raise ValueError(
            f"`epochs` must be at least 1. Received: epochs={epochs}"
        )
