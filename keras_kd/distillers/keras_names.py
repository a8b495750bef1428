# SPDX-License-Identifier: Apache-2.0
"""Names of `keras.distillation.Distiller`, answered with the line to write."""

from __future__ import annotations

import functools
import inspect
import numbers

import keras

_LOGS = {
    "total_loss": "'loss'",
    "distillation_loss": "the name of one loss, such as 'soft_targets'",
    "val_total_loss": "'val_loss'",
    "val_student_loss": "'val_loss'",
    "val_distillation_loss": "'val_loss'",
}


def refuse_arguments(temperature, arguments: dict) -> None:
    """Raises a `ValueError` if arguments are those of Keras' distiller.

    Args:
        temperature: The third argument: the losses, in Keras.
        arguments: Keyword arguments that are none of ours.
    """
    theirs = keras.distillation.DistillationLoss
    if isinstance(temperature, (list, tuple, keras.losses.Loss, theirs)):
        raise ValueError(
            "The third argument of kd.Distiller is the temperature; losses "
            "are given by name: kd.Distiller(teacher, student, "
            "distillation_losses=...). "
            f"Received: temperature={temperature!r}"
        )
    if "student_loss_weight" in arguments:
        weight = arguments["student_loss_weight"]
        known = isinstance(weight, numbers.Real)
        alpha = f"{1.0 - weight:g}" if known else "1 - student_loss_weight"
        raise ValueError(
            "kd.Distiller has no `student_loss_weight`: `alpha` weighs the "
            f"distillation. Write alpha={alpha}. "
            f"Received: student_loss_weight={weight!r}"
        )
    if "distillation_loss_weights" in arguments:
        raise ValueError(
            "kd.Distiller has no `distillation_loss_weights`: each loss has "
            "its own weight. Write distillation_losses=[kd.losses.SoftTargets("
            "weight=...), kd.losses.KerasDistillationLoss(loss, weight=...)]. "
            "Received: distillation_loss_weights="
            f"{arguments['distillation_loss_weights']!r}"
        )


class KerasNames:
    """Gives a distiller a `fit` that knows the logs of Keras' distiller."""

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        given = inspect.signature(super().fit).bind_partial(*args, **kwargs)
        refuse_monitors(given.arguments.get("callbacks"))
        return super().fit(*args, **kwargs)


def refuse_monitors(callbacks) -> None:
    """Raises a `ValueError` if a callback waits for a log of Keras' distiller.

    Keras only warns where a log is missing, and such a callback then does
    nothing.
    """
    callbacks = getattr(callbacks, "callbacks", callbacks) or []
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor in _LOGS:
            raise ValueError(
                f"{type(callback).__name__} monitors '{monitor}', a name of "
                f"keras.distillation. Here it is {_LOGS[monitor]}. ('val_loss' "
                "is the student's own loss: evaluation runs no teacher. A "
                "metric such as 'val_accuracy' is the better guide.)"
            )
