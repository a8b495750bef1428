# SPDX-License-Identifier: Apache-2.0
"""Examples without a label: class id -1 beside ordinary class ids."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd.data.splits import UNLABELLED
from keras_kd.losses.base import to_rank_of


class Labels(NamedTuple):
    """Labels a Keras loss can take, and which of them count."""

    y: Any
    weight: Any = None
    labelled: Any = None
    out_of_range: Any = None


def separate(y, y_pred, loss, sample_weight=None) -> Labels:
    """Replaces missing and impossible class ids by one that is harmless.

    Only sparse categorical losses on one output have class ids; anything
    else passes unchanged. An example without a label weighs 0 in the label
    loss (the mean is still over the whole batch, so the loss of a data set
    is the sum over its examples, however they are batched).

    Args:
        y: Labels as given to `fit`: `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: Student output `(batch, ..., classes)`.
        loss: The `loss` of `compile`.
        sample_weight: Weights as given to `fit`, or `None`.

    Returns:
        `Labels`; `labelled` and `out_of_range` are boolean tensors of the
        shape of the label loss's values, or `None`.
    """
    is_tensor = not isinstance(y, (dict, list, tuple))
    if y is None or not is_tensor or not is_sparse(loss):
        return Labels(y, sample_weight)
    ids = ops.convert_to_tensor(y)
    if "uint" in keras.backend.standardize_dtype(ids.dtype):
        ids = ops.cast(ids, "int32")  # they cannot be compared with -1
    flat = ids
    if len(ids.shape) == len(y_pred.shape) and ids.shape[-1] == 1:
        flat = ops.squeeze(ids, axis=-1)
    ignored = getattr(loss, "ignore_class", None)
    labelled = flat != UNLABELLED
    out_of_range = ops.logical_or(
        flat < UNLABELLED, flat >= ops.cast(y_pred.shape[-1], flat.dtype)
    )
    if ignored is not None:
        out_of_range = ops.logical_and(out_of_range, flat != ignored)
        labelled = ops.logical_or(labelled, flat == ignored)
    usable = ops.logical_and(labelled, ops.logical_not(out_of_range))
    weight = ops.cast(labelled, "float32")
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, "float32")
        weight = weight * to_rank_of(sample_weight, weight)
    safe = ops.where(usable, flat, ops.zeros_like(flat))
    return Labels(
        ops.reshape(safe, ops.shape(ids)), weight, labelled, out_of_range
    )


def without_ignored(y, loss):
    """Returns labels with the `ignore_class` of a loss as "no label" (-1)."""
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or isinstance(y, (dict, list, tuple, type(None))):
        return y
    y = ops.cast(y, "int32")
    return ops.where(y == ignored, UNLABELLED, y)


def labels_for_metrics(y, y_pred, loss):
    """Returns labels that metrics can take; masks the rest in `y_pred`."""
    y, _, labelled, _ = separate(y, y_pred, loss)
    if labelled is not None:
        mask = getattr(y_pred, "_keras_mask", None)
        mask = labelled if mask is None else ops.logical_and(mask, labelled)
        y_pred._keras_mask = mask
    return y


def regularisation(model: keras.Model):
    """Returns the part of what a model's `fit` minimises without labels."""
    # As Keras adds them: in float32, a share of it in each replica.
    losses = map(model._aggregate_additional_loss, model.losses)
    return sum(losses, start=ops.zeros(()))


def check_not_needed(y, alpha: float) -> None:
    """Raises if training needs the label loss that cannot be computed."""
    if alpha < 1.0:
        missing = "labels" if y is None else "compile(loss=...)"
        raise ValueError(
            f"The student's loss has weight 1 - alpha = {1.0 - alpha:g}, but "
            f"{missing} was not given. Give it, or use alpha=1 to learn from "
            "the teacher alone."
        )


def is_sparse(loss) -> bool:
    """Whether a `compile` loss takes class ids."""
    return loss_name(loss) == "sparse_categorical_crossentropy"


def is_binary(loss) -> bool:
    """Whether a `compile` loss takes 0/1 labels."""
    return loss_name(loss) in (
        "binary_crossentropy",
        "binary_focal_crossentropy",
    )


def loss_name(loss) -> str | None:
    """Returns the snake-case name of a `compile` loss, if it is one loss."""
    if loss is None or isinstance(loss, (dict, list, tuple)):
        return None
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        loss = getattr(loss, "fn", loss)
    return getattr(loss, "__name__", None)
