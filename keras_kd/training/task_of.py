# SPDX-License-Identifier: Apache-2.0
"""The task of a run: known before its first step, and asked each epoch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_kd import tasks
from keras_kd.core import output_heads
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_dataset


def task_of(
    task: Any, headline: str | None, student: keras.Model, data: Data, loss: Any
) -> tasks.Task:
    """Returns the task that was given, or the one that is certain.

    Args:
        task: A `Task`, a dict of them by output, or `None`.
        headline: See `keras_kd.tasks.get`.
        student: An untrained student.
        data: Its validation labels are looked at.
        loss: Loss on the labels, or `None`.

    Raises:
        ValueError: See `keras_kd.tasks.get` and `keras_kd.tasks.infer`.
    """
    if task is not None:
        return tasks.get(task, headline)
    labels = data.validation
    if isinstance(labels, tf.data.Dataset):
        labels = next(labels.as_numpy_iterator())
    return tasks.infer(student, labels[1], loss)


def forms_of(model: keras.Model) -> Any:
    """Returns what a model's outputs are: by name where there are several.

    `None` for one that cannot be told.
    """
    means = {"linear": "logits", "softmax": "probabilities"}
    means["sigmoid"] = "probabilities"
    if getattr(model, "inputs", None) is None:
        return None
    names = output_heads.named_outputs(model)
    found = {
        name: means.get(output_heads.activation_of(model, name) or "")
        for name in names
    }
    return found if len(found) > 1 else next(iter(found.values()))


class JudgeEpochs(keras.callbacks.Callback):
    """Logs a task's figures on the validation split after each epoch.

    For tasks whose headline Keras has no metric for.

    Args:
        task: The task.
        student: The model that is judged.
        validation: The split.
    """

    def __init__(
        self, task: tasks.Task, student: keras.Model, validation: Split
    ):
        super().__init__()
        self.task, self.student = task, student
        self.batches = as_dataset(validation)

    def on_epoch_end(self, epoch, logs=None):
        meter = self.task.meter(forms_of(self.student))
        for x, y, *weight in self.batches:
            outputs = self.student.predict_on_batch(x)
            labels = tf.nest.map_structure(lambda part: part.numpy(), y)
            meter.update(outputs, labels, None, *(w.numpy() for w in weight))
        name = self.task.headline.name
        figures = meter.result()
        if name not in figures:
            raise ValueError(
                f"The validation split gives no {name}, by which epochs are "
                f"chosen: it needs labels. Received: {sorted(figures)}"
            )
        logs[f"val_{name}"] = figures[name]
