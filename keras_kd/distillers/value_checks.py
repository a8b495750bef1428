# SPDX-License-Identifier: Apache-2.0
"""Values that would spoil a training in silence, refused before it.

A ReLU hides a NaN of the inputs from every figure, and not from the weights;
compiled by XLA, a label that is no class takes another one's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_kd.core.label_losses import counted_from_one
from keras_kd.core.label_losses import is_own
from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.distillers.own_step import has_own_loss
from keras_kd.distillers.unlabelled import is_sparse
from keras_kd.targets.attached import split_targets

LARGEST = float(np.sqrt(np.finfo("float32").max))
"""What is larger is infinite in float32 once it is squared."""


def check_values(data: Data | Split, student: keras.Model) -> None:
    """Raises a ValueError where arrays hold NaN, infinity or 3e38.

    Text is passed over, and so is a `tf.data.Dataset`: it may be long. Such
    inputs are no error to a student that learns from them by finite numbers.
    """
    splits = {"data": data}
    if isinstance(data, Data):
        splits = {name: getattr(data, name) for name in _NAMES}
    for name, split in splits.items():
        if not isinstance(split, tf.data.Dataset):
            _check_inputs(split[0], [student], name)
            for labels in map(np.asarray, tf.nest.flatten(split[1])):
                _check_finite(labels, f"`{name}`: label", LARGEST)


def check_labels(data: Data, student: keras.Model, loss: Any) -> None:
    """Raises a ValueError where a label is no class of a classifier.

    Looks at arrays of class ids, for a student of one output.

    Args:
        data: Its three splits are looked at.
        student: Its output says how many classes there are.
        loss: The loss on the labels.
    """
    for name in _NAMES:
        split = getattr(data, name)
        if not isinstance(split, tf.data.Dataset):
            _check_class_ids(split[1], student, loss, name)


def check_numbers(labels: Any, name: str) -> None:
    """Raises unless all labels of a split are numbers."""
    for array in tf.nest.flatten(labels):
        array = np.asarray(array)
        if array.dtype.kind in "OSUMm":
            shown = sorted({str(v) for v in array.ravel()[:1000]})[:3]
            raise ValueError(
                f"The labels of `{name}` must be numbers. Received: labels "
                f"such as {', '.join(shown)} (dtype {array.dtype}). Number "
                "the classes in the order of the outputs: "
                "class_names, y = np.unique(y, return_inverse=True)."
            )


def check_fit(
    x: Any, y: Any, students: Sequence[keras.Model], loss: Any
) -> None:
    """Raises a ValueError for arrays of a `fit` that would spoil its student.

    What is legal in Keras passes: labels that a loss of one's own reads, or
    none reads, large numbers, and gaps that the students fill. Of anything
    but arrays nothing is known before it comes by.

    Args:
        x: Inputs as given to `fit`; a student's, without targets.
        y: Labels as given to `fit`.
        students: What is trained.
        loss: What `compile` was given.
    """
    if _are_arrays(x):
        _check_inputs(x, students, "x")
    losses = [one for one in keras.tree.flatten(loss) if one is not None]
    if any(map(has_own_loss, students)) or not (losses and _are_arrays(y)):
        return
    if not any(map(is_own, losses)):
        check_numbers(y, "y")
        for labels in map(np.asarray, keras.tree.flatten(y)):
            _check_finite(labels, "`y`: label")
    if not keras.tree.is_nested(y):
        _check_class_ids(y, students[0], loss, "y")


_NAMES = ("train", "validation", "test")


def _are_arrays(data):
    parts = keras.tree.flatten(data)
    return all(isinstance(a, (np.ndarray, tf.Tensor)) for a in parts)


def _check_inputs(x, students, name):
    for array in map(np.asarray, tf.nest.flatten(x)):
        row, _ = _first_bad(array, LARGEST)
        if row is None or all(_learns_from(s, x, row) for s in students):
            continue
        _check_finite(array, f"`{name}`: input", LARGEST)


def _check_finite(array, what, limit=np.inf):
    row, bad = _first_bad(array, limit)
    if row is not None:
        below = f" and below {limit:.2g}, where float32 can still square them"
        below = below if np.isfinite(limit) else ""
        raise ValueError(
            f"{what} values must be finite{below}. "
            f"Received: {bad} in example {row}. Fix or leave out that "
            "example, or fill the gap, as by sklearn.impute.SimpleImputer."
        )


def _check_class_ids(labels, student, loss, name):
    shape = getattr(student, "output_shape", None)
    is_one = isinstance(shape, tuple) and isinstance(shape[-1], int)
    labels = np.asarray(labels)
    if len(given := keras.tree.flatten(loss)) == 1:
        (loss,) = given  # in a dict or list
    if not (is_one and is_sparse(loss)) or labels.dtype.kind not in "iuf":
        return
    ends = labels.min(initial=0), labels.max(initial=0)
    if labels.dtype.kind != "f" and ends[0] >= 0 and ends[1] < shape[-1]:
        return  # without a copy of what may be a class for each pixel
    also = {UNLABELLED, getattr(loss, "ignore_class", None)} - {None}
    known = (labels >= 0) & (labels < shape[-1]) & (labels % 1 == 0)
    wrong = np.argwhere(~known & ~np.isin(labels, list(also)))
    if len(wrong):
        raise ValueError(
            f"`{name}`: a label must be a class id from 0 to "
            f"{shape[-1] - 1}, or {UNLABELLED} for none. Received: "
            f"{labels[tuple(wrong[0])]} for example {wrong[0][0]}."
            + counted_from_one(labels, shape[-1])
        )


def _first_bad(array, limit):
    """Returns the row and the value that is first out of range, or `None`s."""
    if array.dtype.kind != "f":
        return None, None
    # No copy of the whole: minimum and maximum pass a NaN on.
    ends = np.abs([array.min(initial=0), array.max(initial=0)])
    if np.all(ends < limit):
        return None, None
    place = np.argwhere(~(np.abs(array) < limit))[0]
    return place[0], array[tuple(place)]


def _learns_from(student, x, row):
    """Whether outputs and gradients of an example are numbers to go on with."""
    one = tf.nest.map_structure(lambda a: np.asarray(a[row : row + 1]), x)
    with tf.GradientTape() as tape:
        try:
            one = inputs_for(student, split_targets(one)[0])
            outputs = keras.tree.flatten(student(one, training=False))
        except ValueError:  # other inputs than the student's
            return False
        total = sum(ops.sum(ops.cast(o, "float32")) for o in outputs)
    found = tape.gradient(total, student.trainable_weights)
    found = [tf.convert_to_tensor(g) for g in found if g is not None]
    return all(
        bool(np.all(np.abs(np.asarray(a)) < LARGEST)) for a in outputs + found
    )
