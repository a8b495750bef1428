# SPDX-License-Identifier: Apache-2.0
"""infer(): the task of a model and its labels, where it is certain."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_kd.core import output_heads
from keras_kd.core.label_losses import CLASS_NUMBERS
from keras_kd.core.label_losses import OF_ROWS
from keras_kd.core.label_losses import OF_UNITS
from keras_kd.core.label_losses import OF_VALUES
from keras_kd.core.label_losses import counted_from_one
from keras_kd.core.label_losses import loss_name
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.data.splits import UNLABELLED
from keras_kd.tasks.base import Task
from keras_kd.tasks.classification import Classification
from keras_kd.tasks.multi_label import MultiLabel
from keras_kd.tasks.reading import sums_to_one
from keras_kd.tasks.regression import Regression
from keras_kd.tasks.segmentation import Segmentation


def infer(
    student: keras.Model,
    labels: Any,
    loss: LabelLossLike | None = None,
) -> Task:
    """Returns the task of a model, if outputs and labels leave no doubt.

    Args:
        student: A model with one output.
        labels: Some of the labels.
        loss: Loss on the labels; by default what the model is compiled with.

    Raises:
        ValueError: If more than one task would fit, or none; it lists those
            that would.

    Example:

    ```python
    kd.tasks.infer(student, labels, loss=cross_entropy)  # Classification
    ```
    """
    if isinstance(labels, Mapping) and len(labels) == 1:
        (labels,) = labels.values()
    loss = getattr(student, "loss", None) if loss is None else loss
    shape = getattr(student, "output_shape", None)
    if isinstance(shape, (list, dict)) and len(shape) == 1:
        (shape,) = shape.values() if isinstance(shape, dict) else shape
    if not isinstance(shape, tuple) or not isinstance(shape[-1], int):
        raise ValueError(
            "A task can only be inferred for a model with one output of known "
            "width. "
            f"Received: output shape {shape}. Pass `task`; for several "
            "outputs a dict of tasks by output, with `headline`."
        )
    activation = output_heads.activation_of(student)
    return infer_output(activation, shape, labels, loss)


def infer_output(
    activation: str | None,
    shape: Sequence[int | None],
    labels: Any,
    loss: LabelLossLike | None = None,
) -> Task:
    """Returns the task of one output; see `infer`.

    Args:
        activation: `"softmax"`, `"sigmoid"`, `"linear"`, or `None`.
        shape: Shape of the output, that of the batch included.
        labels: Some of its labels.
        loss: Its loss on the labels, if known.

    Raises:
        ValueError: See `infer`.
    """
    labels, name = np.asarray(labels), loss_name(loss)
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            "Labels must be numbers. Received: labels of dtype "
            f"{labels.dtype}. Number the classes first, in the order of the "
            "outputs, for example with sklearn.preprocessing.LabelEncoder."
        )
    shape = (*shape, 1) if len(shape) == 1 else tuple(shape)
    rule = _one_unit if shape[-1] == 1 else _several_units
    found = rule(activation, shape, labels, name)
    if isinstance(found, Task):
        return found
    raise ValueError(
        "Cannot tell for certain what task this is: the output has shape "
        f"{shape} and activation {activation}, labels have shape "
        f"{labels.shape}, dtype {labels.dtype} and values{_range(labels)}, "
        f"the loss is "
        f"{name or 'not known'}. Pass `task`; these would fit: "
        + ", ".join(f"kd.tasks.{task}" for task in found)
        + (f".{hint}" if (hint := counted_from_one(labels, shape[-1])) else "")
    )


def _one_unit(activation, shape, labels, loss):
    is_map = len(shape) > 3
    if loss in OF_VALUES:
        return Regression()
    yes_no = _is_yes_no(labels)
    if loss in OF_UNITS or (loss is None and activation == "sigmoid"):
        if yes_no and is_map:
            return Segmentation()
        if yes_no and len(shape) == 2:
            return Classification()
    elif loss is None and activation == "linear" and not yes_no:
        return Regression()
    classes = "Segmentation()" if is_map else "Classification()"
    return [classes, "Regression()"]


def _several_units(activation, shape, labels, loss):
    numbers = labels[..., 0] if labels.shape[-1:] == (1,) else labels
    if numbers.ndim == len(shape) - 1:
        return _of_class_numbers(activation, shape, numbers, loss)
    if labels.ndim == len(shape) and labels.shape[-1] == shape[-1]:
        return _of_rows(activation, shape, labels, loss)
    if loss == "ctc":
        return ["Transcription(alphabet=...)"]
    return ["Detection(decode=...)", "Recommendation()", "Retrieval()"]


def _of_class_numbers(activation, shape, labels, loss):
    fits = loss == CLASS_NUMBERS or (
        loss is None and activation in ("softmax", "linear")
    )
    in_range = labels.min() >= UNLABELLED and labels.max() < shape[-1]
    if loss == "ctc":
        return ["Transcription(alphabet=...)"]
    if not fits or not in_range or (labels % 1).any():
        return ["Classification()", "Retrieval()", "Recommendation()"]
    if len(shape) == 2:
        return Classification()
    if len(shape) == 3:
        several = ["LanguageModel()", "Tagging(tags=...)"]
        return [*several, "Classification() of each position"]
    return Segmentation()


def _of_rows(activation, shape, labels, loss):
    labelled = labels[(labels != UNLABELLED).all(axis=-1)]
    one_class = bool(
        labelled.size and (labelled >= 0).all() and sums_to_one(labelled)
    )
    yes_no, is_map = _is_yes_no(labels), len(shape) > 3
    if loss in OF_VALUES and not (one_class and activation == "softmax"):
        return Regression()
    if one_class and (
        loss in OF_ROWS or (loss is None and activation == "softmax")
    ):
        kind = Segmentation if is_map else Classification
        return kind(one_hot=True)
    by_unit = loss in OF_UNITS or (loss is None and activation == "sigmoid")
    if by_unit and yes_no and not one_class and activation != "softmax":
        return MultiLabel()
    if loss is None and activation == "linear" and not (yes_no or one_class):
        return Regression()
    fit = ["Classification(one_hot=True)"] if one_class else []
    units = ["MultiLabel()", "Recommendation()"] if yes_no else []
    return [*fit, *units, "Regression()"]


def _range(labels):
    return f" from {labels.min()} to {labels.max()}" if labels.size else ""


def _is_yes_no(labels):
    return bool(np.isin(labels, (0, 1, UNLABELLED)).all())
