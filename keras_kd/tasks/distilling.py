# SPDX-License-Identifier: Apache-2.0
"""What a task brings to a training where nothing else was said."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.losses.base import DistillationLoss
from keras_kd.tasks.base import Task
from keras_kd.tasks.composite import Composite


def losses_for(
    task: Task, temperature: float | None = None
) -> list[DistillationLoss]:
    """Returns a task's distillation losses, as `Distiller` takes them.

    Args:
        task: The task.
        temperature: Of those that have one; `None` leaves the task's own.
    """
    losses = task.distillation_losses()
    for loss in losses:
        if temperature is not None and hasattr(loss, "temperature"):
            loss.temperature = temperature
    return losses


def over_by_task(
    task: Task | None, tap: Any, names: Sequence[str]
) -> str | None:
    """Returns whether a task has `"classes"` or yes/no `"units"` at a tap.

    `None` for numbers, a layer inside, and where there is no task.

    Args:
        task: The task.
        tap: `"output"`, or the name of an output or a layer.
        names: The model's output names.
    """
    if isinstance(task, Composite):
        task = task.tasks.get(tap)
    elif tap not in ("output", *names):
        task = None
    squash = task.squash if task is not None else None
    return {"softmax": "classes", "sigmoid": "units"}.get(squash or "")


def compile_arguments(
    task: Task | None,
    student: keras.Model,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns arguments of `compile` by name, with a task's loss and metrics.

    Args:
        task: The task; `None` adds nothing.
        student: The model that is trained.
        args: What `compile` was given. What is in it stays.
        kwargs: Likewise.
    """
    signature = inspect.signature(keras.Model.compile)
    given = signature.bind(student, *args, **kwargs).arguments
    del given["self"]
    if task is not None and given.get("loss") is None:
        given["loss"] = task.label_loss(student)
    if task is not None and given.get("metrics") is None:
        given["metrics"] = task.metrics(student)
    return given
