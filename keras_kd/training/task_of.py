# SPDX-License-Identifier: Apache-2.0
"""The task of a run: known before its first step, and asked each epoch."""

from __future__ import annotations

import re
from typing import Any

import keras
import tensorflow as tf

from keras_kd import tasks
from keras_kd.core import output_heads
from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.type_aliases import Split
from keras_kd.data.masks import with_masks
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_dataset
from keras_kd.distillers.distiller import Distiller
from keras_kd.losses.soft_targets import SoftTargets
from keras_kd.tasks.composite import parts_for
from keras_kd.tasks.distilling import losses_for
from keras_kd.training.settings_json import as_json


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


def written(task: tasks.Task) -> str:
    """Returns a task as text that another process writes the same way."""
    # A function stands there with its address; its code is known otherwise.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(task))


def with_losses_of(task: tasks.Task, distilling: dict[str, Any]) -> dict:
    """Returns settings of a distillation, with a task's losses where none are.

    Args:
        task: The task.
        distilling: `distillation_losses` and `temperature` of `compress`. The
            losses stay `None` where they are what `Distiller` takes anyway.
    """
    if distilling["distillation_losses"] is not None:
        return distilling
    losses = losses_for(task, distilling["temperature"])
    temperature = getattr(losses[0], "temperature", None)
    plain = temperature and SoftTargets(temperature)
    if plain and as_json(losses) == as_json([plain]):
        return {**distilling, "temperature": temperature}
    return {**distilling, "temperature": None, "distillation_losses": losses}


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
        validation: The split.
    """

    def __init__(self, task: tasks.Task, validation: Split):
        super().__init__()
        self.task, self.validation = task, validation

    @property
    def _student(self):
        is_distiller = isinstance(self.model, Distiller)
        return self.model.student if is_distiller else self.model

    def on_train_begin(self, logs=None):
        self.validation = with_masks(self.validation, self._student)

    def on_epoch_end(self, epoch, logs=None):
        value = headline_of(self.task, self._student, self.validation)
        logs[f"val_{self.task.headline.name}"] = value


def headline_of(task: tasks.Task, model: keras.Model, split: Split) -> float:
    """Returns the figure that a model is judged by, on a split.

    Raises:
        ValueError: If the split does not give it.
    """
    meter = task.meter(forms_of(model))
    for x, *rest in as_dataset(split):
        given = tf.nest.map_structure(lambda part: part.numpy(), rest)
        found = model.predict_on_batch(inputs_for(model, x))
        found = output_heads.outputs_by_name(model, found)
        labels, *weights = (parts_for(task, part) for part in given)
        meter.update(found, labels, None, *weights)
    figures, name = meter.result(), task.headline.name
    if name not in figures:
        raise ValueError(
            f"The split gives no {name}, by which models are chosen: it needs "
            f"labels. Received: {sorted(figures)}"
        )
    return figures[name]
