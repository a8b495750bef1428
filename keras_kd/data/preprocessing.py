# SPDX-License-Identifier: Apache-2.0
"""preprocessed(): splits of raw inputs, as a model takes them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.folders import telling_of_a_full_disk
from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.type_aliases import Split
from keras_kd.data.parts import check_one_size
from keras_kd.data.splits import Data

BATCH = 256


def check_preprocess(preprocess: Any) -> None:
    """Raises a `ValueError` unless it is a layer or a model, or `None`."""
    if preprocess is not None and not isinstance(preprocess, keras.Layer):
        raise ValueError(
            "`preprocess` must be a keras.Layer or keras.Model, since it goes "
            "into the exported files. Received: "
            f"{type(preprocess).__name__}. Write a function of keras.ops as "
            "keras.layers.Lambda(function)."
        )


def preprocessed(data: Data, preprocess: keras.Layer | None) -> Data:
    """Returns `Data` with what a layer makes of all inputs.

    Args:
        data: Splits of raw inputs, such as uint8 images or strings.
        preprocess: A layer or model, called with `training=False`; `None`
            returns `data`.

    Returns:
        The splits in the form they have. What becomes of arrays is written
        batch by batch into the folder for temporary files (`TMPDIR`), without
        a name, and read from there as needed.

    Raises:
        ValueError: If the layer gives examples of several sizes.
        OSError: If the disk is full.

    Example:

    ```python
    from keras_kd.data.preprocessing import preprocessed

    scaled = preprocessed(data, keras.layers.Rescaling(1 / 255))
    ```
    """
    if preprocess is None:
        return data
    is_reported = data.reported_split == "validation"
    test = None if is_reported else _through(preprocess, data.test)
    return dataclasses.replace(
        data,
        train=_through(preprocess, data.train),
        validation=_through(preprocess, data.validation),
        test=test,
        identity=data.identity and f"{data.identity}, by {preprocess.name}",
    )


def _through(layer: keras.Layer, split: Split) -> Split:
    def answer(x):
        if isinstance(layer, keras.Model):
            x = inputs_for(layer, x)
        return layer(x, training=False)

    if isinstance(split, tf.data.Dataset):
        return split.map(lambda x, *rest: (answer(x), *rest))
    x, *rest = split
    call = tf.function(answer, reduce_retracing=True)
    kept: Any = None
    with (
        telling_of_a_full_disk(tempfile.gettempdir()),
        contextlib.ExitStack() as files,
    ):
        for given in _batches(x):
            found = call(tf.nest.map_structure(tf.convert_to_tensor, given))
            found = tf.nest.map_structure(lambda tensor: tensor.numpy(), found)
            if kept is None:
                new = functools.partial(_OnDisk, files=files)
                kept = tf.nest.map_structure(new, found)
            tf.nest.map_structure(_OnDisk.append, kept, found)
        return (tf.nest.map_structure(_OnDisk.array, kept), *rest)


def _batches(x):
    # Without a copy of all, which a data set of its slices would hold.
    for first in range(0, len(tf.nest.flatten(x)[0]), BATCH):
        rows = slice(first, first + BATCH)
        yield tf.nest.map_structure(operator.itemgetter(rows), x)


class _OnDisk:
    """An array that is written by rows into a file without a name.

    Float32 of uint8 images is four times the data: mapped, it takes no memory
    that the system cannot have back, and is gone with the last use of it.

    Args:
        like: The first rows, `(batch, ...)`.
        files: Closes the file; the array stays.
    """

    def __init__(self, like: np.ndarray, files: contextlib.ExitStack):
        self._like, self._count = like[:0], 0
        # Text has no fixed size; arrays of it are kept as they are.
        self._text: list[np.ndarray] = []
        file = tempfile.TemporaryFile(prefix="keras_kd-")
        self._file = files.enter_context(file)

    def append(self, rows: np.ndarray) -> None:
        check_one_size([self._like, rows], "preprocessed inputs")
        self._count += len(rows)
        if rows.dtype.hasobject:
            self._text.append(rows)
        else:
            self._file.write(rows.tobytes())

    def array(self) -> np.ndarray:
        if self._text:
            return np.concatenate(self._text)
        self._file.flush()
        shape = self._count, *self._like.shape[1:]
        # Copied where written to: TensorFlow copies what is read-only whole.
        mapped = np.memmap(self._file, self._like.dtype, "c", shape=shape)
        return np.asarray(mapped)  # as plain an array as any other
