# SPDX-License-Identifier: Apache-2.0
"""Class ids: labels of any form, as the index of a class per example."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.data.splits import UNLABELLED
from keras_kd.distillers.per_output import labels_of_tap
from keras_kd.distillers.per_output import output_of_tap
from keras_kd.distillers.unlabelled import without_ignored
from keras_kd.losses.base import compatible


def class_ids(y, shape: tuple):
    """Returns labels as class ids, one for each set of class scores.

    Ids, one-hot rows and yes/no labels have different shapes, so the shape
    of the scores tells which of them the labels are.

    Args:
        y: Class ids `(batch, ...)` or `(batch, ..., 1)`, with -1 for an
            example without a label; one-hot or soft labels
            `(batch, ..., classes)`, where a row of zeros has no label; or
            0/1 labels `(batch, ..., units)` of yes/no units.
        shape: Shape of the class scores, `(batch, ..., classes)`; it is
            `(batch, ..., units, 2)` for yes/no units (`heads.comparable`).

    Returns:
        Int32 tensor of the shape of the scores without the classes.

    Raises:
        ValueError: If the labels are of no such shape.
    """
    y = ops.convert_to_tensor(y)
    if not keras.backend.is_float_dtype(y.dtype):
        y = ops.cast(y, "int32")
    rank, classes, given = len(shape) - 1, shape[-1], len(y.shape)
    if given == rank - 1 and shape[-2] == 1:  # one yes/no unit
        y = ops.expand_dims(y, axis=-1)
    elif given == rank + 1 and y.shape[-1] == 1:
        y = ops.squeeze(y, axis=-1)
    elif given == rank + 1 and classes in (None, y.shape[-1]):
        has_label = ops.any(y > 0, axis=-1)
        y = ops.where(has_label, ops.argmax(y, axis=-1), UNLABELLED)
    if not compatible(tuple(y.shape), tuple(shape[:-1])):
        raise ValueError(
            "Labels must be class ids, one-hot labels or, for yes/no units, "
            f"zeros and ones. Received: labels of shape {tuple(y.shape)} for "
            f"class scores of shape {tuple(shape)}."
        )
    if keras.backend.is_float_dtype(y.dtype):
        y = ops.round(y)  # smoothed yes/no labels are 0.95 or 0.05
    return ops.cast(y, "int32")


def ids_of_output(loss, outputs: list, shape: tuple):
    """Returns the labels that go with a loss, or `None`.

    They are class ids, but for a loss that takes them as they are.

    Args:
        loss: A distillation loss.
        outputs: The student's `Output`s.
        shape: Shape of the class scores.
    """
    output = output_of_tap(outputs, loss.student)
    labels = labels_of_tap(outputs, loss.student)
    if labels is None:
        return None
    if not loss.class_labels:
        labels = ops.cast(labels, "float32")
        missing = len(labels.shape) == len(shape) - 1
        return ops.expand_dims(labels, -1) if missing else labels
    if output is not None:
        labels = without_ignored(labels, output.loss)
    # Features do not tell the number of classes; one label an example.
    return class_ids(labels, shape if loss.logits else (None, None))
