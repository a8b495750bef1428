# SPDX-License-Identifier: Apache-2.0
"""What a Distiller compares where it was given no losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_kd import tasks
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import TaskLike
from keras_kd.losses.soft_targets import SoftTargets
from keras_kd.tasks.base import Task
from keras_kd.tasks.distilling import losses_for

TEMPERATURE = 4.0


def task_to_train(task: TaskLike | None) -> Task | None:
    """Returns a task, of a dict of tasks the one for all of its outputs."""
    if isinstance(task, Mapping):  # any of them may judge: none does here
        return tasks.get(task, next(iter(task), None))
    return None if task is None else tasks.get(task)


def losses_or_default(
    distillation_losses: LossLike | None,
    temperature: float | None,
    task: Task | None,
) -> tuple[Any, bool]:
    """Returns the losses, and whether nothing says that they fit.

    Args:
        distillation_losses: See `Distiller`.
        temperature: See `Distiller`.
        task: See `Distiller`.

    Raises:
        ValueError: If both losses and a temperature are given.
    """
    if distillation_losses is not None and temperature is not None:
        raise ValueError(
            "Give either `temperature` or `distillation_losses`, not both: "
            "the temperature belongs to the loss, as in "
            "SoftTargets(temperature=4.0). Received: "
            f"temperature={temperature}, "
            f"distillation_losses={distillation_losses}"
        )
    if distillation_losses is not None:
        return distillation_losses, False
    if task is not None:
        return losses_for(task, temperature), False
    known = TEMPERATURE if temperature is None else temperature
    return SoftTargets(known), temperature is None
