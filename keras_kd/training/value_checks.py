# SPDX-License-Identifier: Apache-2.0
"""Values that would spoil a training in silence, refused before it.

A ReLU hides a NaN of the inputs from every figure, and not from the weights;
compiled by XLA, a label that is no class takes another one's place.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.distillers.unlabelled import is_sparse
from keras_kd.targets.attached import split_targets

LARGEST = float(np.sqrt(np.finfo("float32").max))
"""What is larger is infinite in float32 once it is squared."""


def check_values(data: Data | Split, student: keras.Model) -> None:
    """Raises a ValueError where arrays hold NaN, infinity or 3e38.

    Text is passed over, and so is a `tf.data.Dataset`: it may be long. NaN
    is a gap to a student that answers it by finite numbers.
    """
    splits = {"data": data}
    if isinstance(data, Data):
        splits = {name: getattr(data, name) for name in _NAMES}
    for name, split in splits.items():
        if isinstance(split, tf.data.Dataset):
            continue
        for part, arrays in zip(("input", "label"), split, strict=False):
            for array in map(np.asarray, tf.nest.flatten(arrays)):
                row, bad = _first_bad(array)
                if row is None:
                    continue
                is_gap = part == "input" and np.isnan(bad)
                if is_gap and _can_read(student, split[0], row):
                    continue
                raise ValueError(
                    f"`{name}`: {part} values must be finite and below "
                    f"{LARGEST:.2g}, where float32 can still square them. "
                    f"Received: {bad} in example {row}. Mend or leave out "
                    "that example, or fill the gap, as by "
                    "sklearn.impute.SimpleImputer."
                )


def check_labels(data: Data, student: keras.Model, loss: Any) -> None:
    """Raises a ValueError where a label is no class of a classifier.

    Looks at arrays of class ids, for a student of one output.

    Args:
        data: Its three splits are looked at.
        student: Its output says how many classes there are.
        loss: The loss on the labels.
    """
    shape = getattr(student, "output_shape", None)
    is_one = isinstance(shape, tuple) and isinstance(shape[-1], int)
    if not is_one or not is_sparse(loss):
        return
    also = {UNLABELLED, getattr(loss, "ignore_class", None)} - {None}
    for name in _NAMES:
        split = getattr(data, name)
        if isinstance(split, tf.data.Dataset):
            continue
        labels = np.asarray(split[1])
        if labels.dtype.kind not in "iuf":
            continue
        known = (labels >= 0) & (labels < shape[-1]) & (labels % 1 == 0)
        wrong = np.argwhere(~known & ~np.isin(labels, list(also)))
        if len(wrong):
            raise ValueError(
                f"`{name}`: a label must be a class id from 0 to "
                f"{shape[-1] - 1}, or {UNLABELLED} for none. Received: "
                f"{labels[tuple(wrong[0])]} for example {wrong[0][0]}."
            )


_NAMES = ("train", "validation", "test")


def _first_bad(array):
    """Returns the row and the value that is first out of range, or `None`s."""
    if array.dtype.kind != "f":
        return None, None
    # No copy of the whole: minimum and maximum pass a NaN on.
    ends = np.abs([array.min(initial=0), array.max(initial=0)])
    if np.all(ends < LARGEST):
        return None, None
    place = np.argwhere(~(np.abs(array) < LARGEST))[0]
    return place[0], array[tuple(place)]


def _can_read(student, x, row):
    """Whether a student fills gaps itself."""
    one = tf.nest.map_structure(lambda a: np.asarray(a[row : row + 1]), x)
    try:
        one = inputs_for(student, split_targets(one)[0])
        outputs = keras.tree.flatten(student(one, training=False))
    except ValueError:  # other inputs than the student's
        return False
    return all(bool(np.isfinite(np.asarray(o)).all()) for o in outputs)
