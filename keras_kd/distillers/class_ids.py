# SPDX-License-Identifier: Apache-2.0
"""Class ids: labels of any form, as the index of a class per example."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.data.splits import UNLABELLED
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


def labels_of_output(y, name: str, output_names: list):
    """Returns the labels that belong to one output of a model.

    Args:
        y: As given to `fit`: a tensor, or a dict, list or tuple of them for
            a model with several outputs.
        name: Name of the output; `"output"` for that of a model with one.
        output_names: Names of the model's outputs, in order.

    Raises:
        ValueError: If `y` does not say which labels belong to it.
    """
    if not isinstance(y, (dict, list, tuple)):
        return y
    if not isinstance(y, dict) and len(y) == len(output_names):
        y = dict(zip(output_names, y, strict=True))
    known = list(y) if isinstance(y, dict) else []
    if name in known or len(known) == 1:
        return y.get(name, y[known[0]])
    raise ValueError(
        f"There are no labels for the tap '{name}'. Expected one array of "
        "labels, or a dict of them with a key of that name. Received keys "
        f"{known}; the model's outputs are {list(output_names)}."
    )
