# SPDX-License-Identifier: Apache-2.0
"""Data: the three splits every stage works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.type_aliases import Examples
from keras_kd.core.type_aliases import Split
from keras_kd.data import reading
from keras_kd.data.class_weights import with_class_weights

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

    A split is arrays `(x, y)` or `(x, y, sample_weight)`, or a batched
    `tf.data.Dataset` that yields the same. `x` and `y` may be dicts or tuples
    of arrays; data frames and lists of numbers are read as arrays, and
    boolean labels as 0 and 1. Choices (early stopping, search) look at
    `validation`; the figures of a report come from `test`, which nothing
    else looks at.

    Where a function takes `Data`, a dict of these arguments will do, and so
    will a tuple `((x, y), (x_val, y_val))` or one of three splits.

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
        class_weight: Class number to what its examples of `train` count, as
            in Keras' `fit`; it becomes, or multiplies, their sample weight.

    Raises:
        ValueError: If a split cannot be read for certain, or class weights
            do not fit the labels.

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
    class_weight: Mapping[int, float] | None = None

    def __post_init__(self):
        given = self.validation
        is_reported = self.test is None or self.test is given
        self._set("train", read_split(self.train, "train"))
        self._set("validation", read_split(given, "validation"))
        test = given if is_reported else read_split(self.test, "test")
        self._set("test", self.validation if is_reported else test)
        self._set("class_names", tuple(map(str, self.class_names)))
        if self.class_weight:
            weighted = with_class_weights(self.train, self.class_weight)
            self._set("train", weighted)
            self._set("class_weight", None)  # said once, in the split

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    @property
    def reported_split(self) -> str:
        """Which split `test` is: "test", or "validation" if none was given."""
        return "validation" if self.test is self.validation else "test"


def as_data(data: Data | Mapping | Sequence) -> Data:
    """Returns `Data` of what was given in its place.

    Args:
        data: `Data`, a dict of its arguments, or a tuple of two or three
            splits: training, validation, test.

    Raises:
        ValueError: If it is something else; says what to write.

    Example:

    ```python
    from keras_kd.data import as_data

    as_data(((x, y), (x_val, y_val))).reported_split   # "validation"
    ```
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, Mapping) and _is_dict_of_splits(data):
        return Data(**data)
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        if all(map(_is_split, data)):
            return Data(*data)
    received = type(data).__name__
    if isinstance(data, Mapping):
        received = f"a dict with the keys {list(data)}"
    raise ValueError(
        "`data` must hold a training and a validation split. Write "
        "kd.Data(train=(x, y), validation=(x_val, y_val)), or a dict "
        "{'train': (x, y), 'validation': (x_val, y_val)}; 'test' and "
        f"'class_names' may be added. Received: {received}"
    )


def _is_split(split):
    if isinstance(split, list):  # not one of rows of numbers
        return any(hasattr(part, "shape") for part in split)
    return isinstance(split, (tuple, tf.data.Dataset))


def split_of(data: Any, which: str) -> Any:
    """Returns one split of `Data` (or of a dict of splits); else `data`."""
    if isinstance(data, Mapping) and _is_dict_of_splits(data):
        data = as_data(data)
    return getattr(data, which) if isinstance(data, Data) else data


def _is_dict_of_splits(data):
    names = [field.name for field in dataclasses.fields(Data)]
    return {"train", "validation"} <= set(data) <= set(names)


def read_split(split: Split, name: str = "split") -> Split:
    """Returns arrays `(x, y)` or `(x, y, sample_weight)`, or a data set.

    Raises:
        ValueError: If it cannot be read like that for certain, or a data set
            is not batched or yields something else.
    """
    if isinstance(split, tf.data.Dataset):
        element = split.element_spec
        if not isinstance(element, tuple) or len(element) not in (2, 3):
            keys = ""
            if isinstance(element, dict):
                keys = f" with the keys {list(element)}"
            raise ValueError(
                f"`{name}` must yield (x, y) or (x, y, sample_weight). "
                f"Received: a tf.data.Dataset of {type(element).__name__}"
                f"{keys}. Write, for example, dataset.map(lambda example: "
                "(example['image'], example['label']))."
            )
        reading.check_batched(split, name)
        return split
    parts = reading.parts_of(split, name, labelled=True)
    if not any(label.dtype == bool for label in tf.nest.flatten(parts[1])):
        return parts
    x, y, *weight = parts
    return (x, tf.nest.map_structure(_numbered, y), *weight)


def _numbered(labels):
    """Yes and no are 1 and 0."""
    is_yes_no = labels.dtype == bool
    return np.asarray(labels, np.int8) if is_yes_no else labels


def as_dataset(
    split: Examples, batch_size: int = 256, name: str = "data"
) -> tf.data.Dataset:
    """Returns examples as a batched dataset of tuples, in their own order.

    Args:
        split: Arrays, a batched `tf.data.Dataset`, or a
            `keras.utils.PyDataset`: of `x`, `(x, y)` or `(x, y,
            sample_weight)`.
        batch_size: Examples in a batch, where `split` holds arrays.
        name: What errors call it.

    Raises:
        ValueError: If it cannot be read like that for certain.
    """
    if isinstance(split, tf.data.Dataset):
        reading.check_batched(split, name)
        is_tuple = isinstance(split.element_spec, tuple)
        return split if is_tuple else split.map(lambda *x: (x[0],))
    if isinstance(split, keras.utils.PyDataset):
        return _stream(split)
    parts = reading.parts_of(split, name)
    # A list of inputs or labels would be taken for one array.
    parts = keras.tree.lists_to_tuples(parts)
    dataset = tf.data.Dataset.from_tensor_slices(parts)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def first_batches(data: Any, count: int, batch_size: int) -> tf.data.Dataset:
    """Returns the first `count` batches of what `fit` is given, in memory.

    Of arrays, a `PyDataset`, a `tf.data.Dataset` (begun once), or `Data`.
    """
    data = split_of(data, "train")
    if not isinstance(data, reading.Streams):
        rows = slice(count * batch_size)
        parts = reading.parts_of(data)
        data = tf.nest.map_structure(lambda array: array[rows], parts)
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
