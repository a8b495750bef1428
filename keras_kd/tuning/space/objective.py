# SPDX-License-Identifier: Apache-2.0
"""What a search asks: the task of its students, and its objective."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import keras_tuner

from keras_kd.data.splits import Data
from keras_kd.tasks import Task
from keras_kd.training.task_of import task_of
from keras_kd.training.trainer import default_metrics


def task_to_search(
    task: Any,
    headline: str | None,
    student: keras.Model,
    data: Data,
    loss: Any,
    objective: Any,
) -> Task | None:
    """Returns the task of a search; `None` where nothing needs to ask one.

    Args:
        task: See `search`.
        headline: See `search`.
        student: An untrained student.
        data: See `search`.
        loss: See `search`.
        objective: See `search`.

    Raises:
        ValueError: If it is not certain, and loss or objective are not given.
    """
    try:
        return task_of(task, headline, student, data, loss)
    except ValueError:
        if task is not None or loss is None or objective is None:
            raise
        return None


def objective_of(
    objective: str | keras_tuner.Objective | None, task: Task | None, loss: Any
) -> keras_tuner.Objective:
    """Returns what trials are compared by, and which way is better.

    Args:
        objective: See `search`.
        task: What `task_to_search` returned.
        loss: See `search`.

    Raises:
        ValueError: If it is not measured on the validation split.
    """
    judged = task and task.headline
    if objective is None:
        return keras_tuner.Objective(f"val_{judged.name}", judged.direction)
    name = getattr(objective, "name", objective)
    if judged is not None and name == f"val_{judged.name}":
        return keras_tuner.Objective(name, judged.direction)
    classifies = judged is not None and judged.name == "accuracy"
    if name == "val_loss" and (classifies or default_metrics(loss)):
        warnings.warn(
            "The objective val_loss is the student's loss on the labels. The "
            "temperature and alpha set how confident a student is, and that "
            "changes this loss more than right and wrong answers do: its "
            "minimum is not the best student. Expected a metric that does "
            "not depend on them, such as objective='val_accuracy'.",
            stacklevel=4,
        )
    if not isinstance(name, str) or not name.startswith("val_"):
        raise ValueError(
            "`objective` must be measured on the validation split, and its "
            "name starts with 'val_'. What is measured in training depends "
            "on the temperature and alpha, or on what the student has "
            f"memorised. Received: objective={objective!r}"
        )
    # The oracle knows which metrics are better large.
    return keras_tuner.oracles.RandomSearchOracle(objective).objective
