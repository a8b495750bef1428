# SPDX-License-Identifier: Apache-2.0
"""Data: the three splits every stage works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.type_aliases import Examples
from keras_kd.core.type_aliases import Split

UNLABELLED = -1
"""Class id that says: no label here; learn from the teacher only."""

REPORTED_ON = {
    "test": "the test split",
    "validation": "validation (no test split was given)",
}
"""What a report calls the split that its accuracies are of."""


@dataclasses.dataclass(frozen=True)
class Data:
    """Training, validation and test splits.

    A split is either a pair of arrays `(x, y)` (`x` may be a dict of arrays)
    or a batched `tf.data.Dataset` that yields `(x, y)`. Choices (early
    stopping, search) look at `validation`; the figures of a report come from
    `test`, which nothing else looks at.

    Args:
        train: What students learn from. Integer labels may be
            `keras_kd.data.UNLABELLED` (-1): such an example has no label
            term and is learned from the teacher alone.
        validation: Labelled split that choices are made on.
        test: Labelled split that is only reported. Defaults to `validation`.
        class_names: Names of the classes, in label order, if known.
        identity: Name and version of the data, such as `"shoes 3"`. A stage
            is known to be done by the content of its data; a
            `tf.data.Dataset` is read once for it, unless this stands for it.

    Example:

    ```python
    data = kd.Data(train=(x, y), validation=(x_val, y_val))
    ```
    """

    train: Split
    validation: Split
    test: Split | None = None
    class_names: tuple[str, ...] = ()
    identity: str | None = None

    def __post_init__(self):
        if self.test is None:
            object.__setattr__(self, "test", self.validation)
        for name in ("train", "validation", "test"):
            check_split(getattr(self, name), name)

    @property
    def reported_split(self) -> str:
        """Which split `test` is: "test", or "validation" if none was given."""
        return "validation" if self.test is self.validation else "test"


def check_split(split: Split, name: str = "split") -> None:
    """Raises a ValueError unless it is a `tf.data.Dataset`, or arrays `(x, y)`.

    Those are of one length, at least 1.
    """
    if isinstance(split, tf.data.Dataset):
        return
    if not isinstance(split, (tuple, list)) or len(split) != 2:
        raise ValueError(
            f"`{name}` must be a pair of arrays (x, y) or a batched "
            f"tf.data.Dataset. Received: {type(split).__name__}"
        )
    lengths = sorted({len(part) for part in tf.nest.flatten(tuple(split))})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            f"`{name}` must hold as many labels as inputs, at least one. "
            f"Received arrays of length {lengths}."
        )


def as_dataset(split: Examples, batch_size: int = 256) -> tf.data.Dataset:
    """Returns `split` as a batched dataset, in its own order.

    Args:
        split: Arrays, a batched `tf.data.Dataset`, or a
            `keras.utils.PyDataset`.
        batch_size: Examples in a batch, where `split` holds arrays.
    """
    if isinstance(split, tf.data.Dataset):
        return split
    if isinstance(split, keras.utils.PyDataset):
        return _stream(split)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(split))
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def first_batches(data: Any, count: int, batch_size: int) -> tf.data.Dataset:
    """Returns the first `count` batches of what `fit` is given, in memory.

    Of arrays, a `PyDataset`, a `tf.data.Dataset` (begun once), or `Data`.
    """
    data = data.train if isinstance(data, Data) else data
    if not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        data = tuple(data) if isinstance(data, (tuple, list)) else (data,)
        rows = slice(count * batch_size)
        data = tf.nest.map_structure(lambda array: array[rows], data)
    batches = as_dataset(data, batch_size).take(count).cache()
    if not sum(1 for _ in batches):  # a whole pass, which fills the cache
        raise ValueError("`data` must hold at least one batch. Received: none.")
    return batches


def with_known_count(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a data set that knows how many batches a pass over it has.

    Without that the step of Keras that finds no batch still counts in the
    optimizer. Where TensorFlow does not know the number, one pass counts.

    Raises:
        ValueError: If it is empty, or never ends.
    """
    count = int(dataset.cardinality())
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = int(dataset.reduce(0, lambda number, _: number + 1))
        # Rather than `assert_cardinality`: passes need not be equally long.
        dataset = dataset.repeat().take(count)
    if count < 1:
        raise ValueError(
            "A training split must hold at least one batch, and must end. "
            f"Received: a tf.data.Dataset of {count and 'endless'} batches."
        )
    return dataset


def _stream(split: keras.utils.PyDataset) -> tf.data.Dataset:
    count = split.num_batches
    if not count:
        raise ValueError(
            "A PyDataset must say how many batches it has, at least one. "
            f"Received: num_batches={count}. Define __len__ in "
            f"{type(split).__name__}."
        )

    def batch(number):
        # tf.data takes a list for one tensor.
        parts = keras.tree.lists_to_tuples(split[number])
        return tf.nest.map_structure(np.asarray, parts)

    batches = tf.data.Dataset.from_generator(
        lambda: map(batch, range(count)),
        output_signature=batch_specs(batch(0)),
    )
    cardinality = tf.data.experimental.assert_cardinality(count)
    return batches.apply(cardinality).prefetch(tf.data.AUTOTUNE)


def batch_specs(x: Any) -> Any:
    """Returns specs of batches like this one, of any size."""
    return tf.nest.map_structure(
        lambda t: tf.TensorSpec((None, *t.shape[1:]), t.dtype), x
    )


def compile_for(function: Callable, x: Any, autograph: bool = True) -> Callable:
    """Compiles a function of one batch, such as `x`, for batches of any size.

    It is traced once: a last, smaller batch would trace a second graph, and
    TensorFlow warns of functions that trace as often as they run. Without
    `autograph` it may not hold Python's `if` and `for` over tensors. Keras
    runs its models without; a large one is traced in half the time.
    """
    compiled = tf.function(function, autograph=autograph)
    return compiled.get_concrete_function(batch_specs(x))


def labels_of(split: Split) -> Any:
    """Returns all labels of a split as one array, or a dict of them."""
    if isinstance(split, tf.data.Dataset):
        batches = [batch[1] for batch in split.as_numpy_iterator()]
        return tf.nest.map_structure(lambda *all: np.concatenate(all), *batches)
    if isinstance(split[1], Mapping):
        return {name: np.asarray(part) for name, part in split[1].items()}
    return np.asarray(split[1])


def take(split: Any, count: int) -> Any:
    """Returns the inputs of the first `count` examples as arrays."""
    if isinstance(split, tf.data.Dataset):
        inputs = split.map(lambda x, *_: x).unbatch().batch(count)
        return next(inputs.as_numpy_iterator())
    return tf.nest.map_structure(lambda a: np.asarray(a[:count]), split[0])
