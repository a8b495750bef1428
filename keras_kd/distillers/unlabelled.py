# SPDX-License-Identifier: Apache-2.0
"""Examples without a label: -1 beside class ids, or beside zeros and ones."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_kd.core.label_losses import CLASS_NUMBERS
from keras_kd.core.label_losses import OF_ROWS
from keras_kd.core.label_losses import OF_UNITS
from keras_kd.core.label_losses import is_chosen_by_keras
from keras_kd.core.label_losses import is_own
from keras_kd.core.label_losses import loss_name
from keras_kd.data.splits import UNLABELLED


class Labels(NamedTuple):
    """Labels of one output that a Keras loss can take, and which count.

    Args:
        y: The labels, with a harmless one in place of what is none.
        labelled: Booleans, `False` for -1; of the shape of the class ids, of
            the units where they are yes/no, of the rows of one-hot labels.
            `None` where no label can be missing.
        ignored: Booleans of that shape: the loss's `ignore_class`, or `None`.
        out_of_range: Booleans of that shape: impossible labels, or `None`.
    """

    y: Any
    labelled: Any = None
    ignored: Any = None
    out_of_range: Any = None

    @property
    def counts(self):
        """Which labels a metric is to count, as booleans, or `None`."""
        if self.ignored is None:
            return self.labelled
        return ops.logical_and(self.labelled, ops.logical_not(self.ignored))


def separate(y, y_pred, loss) -> Labels:
    """Replaces missing and impossible labels of one output.

    A loss on class ids, zeros and ones, or one-hot rows knows labels that are
    none; so does a loss of one's own whose labels are whole numbers of the
    shape of class ids. Labels of any other loss pass unchanged.

    Args:
        y: Labels of the output: `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: The output, `(batch, ..., classes)`.
        loss: Its loss in `compile`.
    """
    if y is None or isinstance(y, (dict, list, tuple)) or loss is None:
        return Labels(y)
    y = ops.convert_to_tensor(y)
    if is_binary(loss):
        return _units(y, y_pred)
    if is_sparse(loss) or (is_own(loss) and like_ids(y, y_pred)):
        return _ids(y, y_pred, getattr(loss, "ignore_class", None))
    if loss_name(loss) in OF_ROWS:
        if y.shape[-1] == y_pred.shape[-1] and len(y.shape) > 1:
            numbers = ops.cast(y, "float32")
            labelled = ops.all(numbers >= 0, axis=-1)
            bad = ops.any(ops.isnan(numbers), axis=-1)
            kept = ops.expand_dims(labelled, axis=-1)
            y = ops.where(kept, y, ops.zeros_like(y))
            return Labels(y, labelled, None, bad)
    return Labels(y)


def _ids(y, y_pred, ignored) -> Labels:
    # Ids of 8 bits or less can neither be -1 nor the number of classes.
    wide = keras.backend.is_float_dtype(y.dtype) or y.dtype in _WIDE
    ids = flat = y if wide else ops.cast(y, "int32")
    if len(ids.shape) == len(y_pred.shape) and ids.shape[-1] == 1:
        flat = ops.squeeze(ids, axis=-1)
    labelled = flat != UNLABELLED
    # So asked that it holds of NaN, too.
    in_range = ops.logical_and(
        flat >= UNLABELLED, flat < ops.cast(y_pred.shape[-1], flat.dtype)
    )
    if keras.backend.is_float_dtype(flat.dtype):
        in_range = ops.logical_and(in_range, flat == ops.floor(flat))
    out_of_range = ops.logical_not(in_range)
    if ignored is not None:
        ignored = flat == ops.cast(ignored, flat.dtype)
        out_of_range = ops.logical_and(out_of_range, ops.logical_not(ignored))
        labelled = ops.logical_or(labelled, ignored)
    usable = ops.logical_and(labelled, ops.logical_not(out_of_range))
    safe = ops.where(usable, flat, ops.zeros_like(flat))
    safe = ops.reshape(safe, ops.shape(ids))
    return Labels(safe, labelled, ignored, out_of_range)


def _units(y, y_pred) -> Labels:
    # As Keras does: labels (batch,) of one unit (batch, 1).
    if len(y.shape) == len(y_pred.shape) - 1 and y_pred.shape[-1] == 1:
        y = ops.expand_dims(y, axis=-1)
    if not keras.backend.is_float_dtype(y.dtype):
        y = ops.cast(y, "float32")
    labelled = y != UNLABELLED
    bad = ops.logical_not(ops.logical_and(y >= 0.0, y <= 1.001))  # NaN, too
    bad = ops.logical_and(bad, labelled)
    usable = ops.logical_and(labelled, ops.logical_not(bad))
    return Labels(ops.where(usable, y, ops.zeros_like(y)), labelled, None, bad)


_WIDE = ("int32", "int64")


def like_ids(y, y_pred) -> bool:
    """Whether labels can only be class ids, whatever takes them."""
    shape = list(y.shape)
    if len(shape) == len(y_pred.shape) and shape[-1] == 1:
        shape = shape[:-1]
    is_whole = "int" in keras.backend.standardize_dtype(y.dtype)
    several = (y_pred.shape[-1] or 0) > 1
    return is_whole and several and len(shape) == len(y_pred.shape) - 1


def without_ignored(y, loss):
    """Returns labels with the `ignore_class` of a loss as "no label" (-1)."""
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or y is None:
        return y
    y = ops.cast(y, "int32")
    return ops.where(y == ignored, UNLABELLED, y)


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
    return loss_name(loss) == CLASS_NUMBERS


def is_binary(loss) -> bool:
    """Whether a `compile` loss takes 0/1 labels."""
    return loss_name(loss) in OF_UNITS


def resolved(loss, y, y_pred):
    """Returns the loss that Keras takes for "crossentropy" of these labels."""
    if not is_chosen_by_keras(loss):
        return loss
    if y_pred.shape[-1] == 1:
        return "binary_crossentropy"
    if y is None or len(y.shape) < len(y_pred.shape) or y.shape[-1] == 1:
        return CLASS_NUMBERS
    return "categorical_crossentropy"
