# SPDX-License-Identifier: Apache-2.0
"""Judging: any artefact by its task, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.data.masks import with_masks
from keras_kd.evaluation.runtimes import Runner
from keras_kd.tasks.base import Task
from keras_kd.tasks.composite import parts_for
from keras_kd.tasks.inferring import infer_output
from keras_kd.tasks.reading import Reader
from keras_kd.tasks.reading import sums_to_one
from keras_kd.training.task_of import forms_of


def judge_by_task(
    runner: Runner,
    dataset: tf.data.Dataset,
    task: Task | None = None,
    *,
    model: Any = None,
    outputs: Any = None,
    teacher_predictions: Any = None,
) -> dict[str, Any]:
    """Runs an artefact over data, and returns what its task's meter says.

    Nothing is kept but what the meter keeps, so the data may be of any size.

    Args:
        runner: What `load_runner` returned.
        dataset: Batches `(x, y)` or `(x, y, sample_weight)`.
        task: The task; `None` infers it of the first batch.
        model: The Keras model that `runner` runs, if it is one.
        outputs: What the outputs are, see `Task.meter`.
        teacher_predictions: See `measure`.

    Returns:
        The figures.

    Raises:
        ValueError: If the data set is empty, the parts do not fit, or the
            task is not given and not certain.
    """
    meter, start = None, 0
    if isinstance(model, keras.Model):
        dataset = with_masks(dataset, model)
    theirs = _as_scores(teacher_predictions)
    for x, y, *weight in dataset.as_numpy_iterator():
        found = runner(x)
        if meter is None:
            if task is None:
                task = _inferred(found, y, model)
            if outputs is None and isinstance(model, keras.Model):
                outputs = forms_of(model)
            meter = task.meter(outputs)
        end = start + len(tf.nest.flatten(x)[0])
        meter.update(
            found,
            parts_for(task, y),
            _rows(theirs, start, end),
            parts_for(task, weight[0]) if weight else None,
        )
        start = end
    if meter is None:
        raise ValueError(
            "`data` must hold at least one batch of examples. Received: an "
            "empty dataset."
        )
    if theirs is not None and len(tf.nest.flatten(theirs)[0]) != start:
        _refuse_length(len(tf.nest.flatten(theirs)[0]), start)
    return meter.result()


def _inferred(outputs, labels, model):
    if len(outputs) != 1 and not {"logits", "probabilities"} & set(outputs):
        raise ValueError(
            f"A model with several outputs, {sorted(outputs)}, needs `task`: "
            "a dict of tasks by output, with `headline`."
        )
    if isinstance(labels, Mapping) and len(labels) == 1:
        (labels,) = labels.values()
    reader = Reader()
    scores = reader.scores(outputs, certain=False)
    loss = activation = None
    if isinstance(model, keras.Model):
        loss = getattr(model, "loss", None)
        activation = output_heads.activation_of(model)
    if activation is None and reader.form == "probabilities":
        is_softmax = scores.shape[-1] > 1 and sums_to_one(scores)
        activation = "softmax" if is_softmax else "sigmoid"
    elif activation is None and reader.form == "logits":
        activation = "linear"
    return infer_output(activation, (None, *scores.shape[1:]), labels, loss)


def _as_scores(predictions):
    """Returns class numbers as scores that decide for them."""
    if predictions is None or isinstance(predictions, Mapping):
        return predictions
    predictions = np.asarray(predictions)
    if predictions.dtype.kind in "iu" and predictions.ndim == 1:
        # Of two classes, as a unit that says yes or no.
        classes = max(int(predictions.max(initial=0)) + 1, 2)
        return {"logits": np.eye(classes)[predictions] - 0.5}
    return predictions


def _rows(parts, start, end):
    if parts is None:
        return None
    length = len(tf.nest.flatten(parts)[0])
    if length < end:
        _refuse_length(length, end)
    return tf.nest.map_structure(lambda part: part[start:end], parts)


def _refuse_length(received, expected):
    raise ValueError(
        "`teacher_predictions` must hold the teacher's outputs (or class "
        "numbers) for exactly the measured examples: expected "
        f"{expected}{' or more' if received < expected else ''}. "
        f"Received: {received}"
    )
