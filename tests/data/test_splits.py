# SPDX-License-Identifier: Apache-2.0
"""What splits may be written as: read for certain, or an error that helps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.core.stage_cache import fingerprint_of_split
from keras_kd.data.parts import labels_of
from keras_kd.data.parts import weights_of
from keras_kd.data.sample_shapes import check_inputs
from keras_kd.data.splits import as_data
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import read_split
from keras_kd.data.splits import split_of
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.fit_arguments import steps_per_epoch
from keras_kd.training.teacher_targets import TeacherTargets

X = np.arange(12, dtype="float32").reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])
PAIR = (X, Y)


class Index(list):
    equals = list.__eq__


class Frame:
    """What keras_kd reads of a pandas DataFrame or Series."""

    iloc = None

    def __init__(self, array, index=None, **dtypes):
        self.array = array
        self.index = Index(index or range(len(array)))
        self.dtypes = {k: np.dtype(v) for k, v in dtypes.items()}
        self.shape = array.shape

    def __len__(self):
        return len(self.array)

    def to_numpy(self):
        return self.array


def frames():
    """Returns the two classes: of pandas, where it is installed."""
    try:
        import pandas
    except ImportError:
        return Frame, Frame
    return pandas.DataFrame, pandas.Series


DataFrame, Series = frames()
TOWNS = np.array([[1, "a"], [2, "b"]], dtype=object)
if DataFrame is Frame:
    TOWNS = Frame(TOWNS, age="int64", town=object)
else:
    TOWNS = DataFrame({"age": [1, 2], "town": ["a", "b"]})
OTHER_ORDER = range(6, 0, -1)
OBJECTS = np.empty(2, dtype=object)
OBJECTS[:] = [X, Y]


SAME = {
    "pair": PAIR,
    "list of both": [X, Y],
    "lists of numbers": (X.tolist(), Y.tolist()),
    "one array for each example": (list(X), Y),
    "data frame": (DataFrame(X), Series(Y)),
    "data frame and array": (DataFrame(X, index=OTHER_ORDER), Y),
    "tensors": (tf.constant(X), tf.constant(Y)),
}


@pytest.mark.parametrize("split", SAME.values(), ids=SAME)
def test_split_is_read_as_its_arrays(split):
    x, y = read_split(split)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    ((seen, labels),) = as_dataset(split)
    np.testing.assert_array_equal(seen, X)
    np.testing.assert_array_equal(labels, Y)


def test_arrays_stay_the_objects_they_are():
    data = kd.Data(PAIR, PAIR)
    assert data.train is PAIR
    inputs = ({"a": X, "b": (X, X)}, Y)
    assert read_split(inputs) is inputs
    assert data.test is data.validation
    assert data.reported_split == "validation"


def test_boolean_labels_are_0_and_1():
    _, y = read_split((X, Y > 0))
    assert y.dtype == np.int8
    assert y.tolist() == [0, 1, 1, 0, 1, 1]


def test_sample_weights_stay_with_their_split():
    data = kd.Data(train=(X, Y, Y + 1.0), validation=PAIR)
    np.testing.assert_array_equal(weights_of(data.train), Y + 1.0)
    assert weights_of(data.validation) is None
    stream = as_dataset(data.train, 4)
    np.testing.assert_array_equal(weights_of(stream), Y + 1.0)
    np.testing.assert_array_equal(labels_of(stream), Y)


SPLITS = {
    "Data": kd.Data(PAIR, PAIR),
    "tuple of pairs": (PAIR, PAIR),
    "three": (PAIR, PAIR, PAIR),
    "dict": {"train": PAIR, "validation": PAIR, "test": PAIR},
    "list": [list(PAIR), list(PAIR)],
}


@pytest.mark.parametrize("data", SPLITS.values(), ids=SPLITS)
def test_data_is_read_from_splits(data):
    read = as_data(data)
    np.testing.assert_array_equal(read.train[0], X)
    np.testing.assert_array_equal(read.test[1], Y)


def test_split_of_takes_a_split_as_it_is():
    assert split_of(SPLITS["dict"], "test")[0] is X
    assert split_of(PAIR, "test") is PAIR
    by_name = {"train": X, "station": X}  # inputs of a model, by name
    assert split_of(by_name, "train") is by_name


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PAIR, "kd.Data(train=(x, y), validation=(x_val, y_val))"),
        ({"train": PAIR, "val": PAIR}, "keys ['train', 'val']"),
        ((X.tolist(), Y.tolist()), "Received: tuple"),
        (X, "Received: ndarray"),
        (None, "Received: NoneType"),
    ],
)
def test_what_holds_no_splits_is_told_what_to_write(data, message):
    with pytest.raises(ValueError) as caught:
        as_data(data)
    assert message in str(caught.value)


def stream(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if parts[1:] else parts[0])


REFUSED = {
    "inputs alone": (X, "must be a pair of arrays (x, y)"),
    "lengths": ((X, Y[:5]), "arrays of length [5, 6]"),
    "empty": ((X[:0], Y[:0]), "is empty"),
    "four parts": ((X, Y, Y, Y), "Received: a tuple of 4"),
    "dict": ({"x": X, "y": Y}, "keys ['x', 'y']"),
    "single samples": (stream(X, Y), "Write dataset.batch(128)"),
    "single one-hot samples": (stream(X, np.eye(6)), "of single samples"),
    "inputs of a stream": (stream(X).batch(2), "must yield (x, y)"),
    "dicts of a stream": (
        stream({"image": X, "label": Y}).batch(2),
        "with the keys ['image', 'label']",
    ),
    "ragged": (([[1], [2, 3]], [0, 1]), "Pad them"),
    "other order": (
        (DataFrame(X), Series(Y, index=OTHER_ORDER)),
        "y.loc[x.index]",
    ),
    "text column": ((TOWNS, [0, 1]), "['town']"),
    "objects": ((OBJECTS, [0, 1]), "(ndarray)"),
    "two readings": (([X[:2], X[2:4]], [0, 1]), "Write a tuple for several"),
}


@pytest.mark.parametrize(
    ("split", "message"), REFUSED.values(), ids=REFUSED.keys()
)
def test_split_that_is_not_certain_is_refused(split, message):
    with pytest.raises(ValueError) as caught:
        read_split(split, "train")
    assert message in str(caught.value)
    assert "`train`" in str(caught.value)


def test_inputs_alone_are_read_as_inputs():
    for x in (X, (X,), X.tolist(), DataFrame(X), stream(X).batch(6)):
        (batch,) = as_dataset(x)
        assert len(batch) == 1
        np.testing.assert_array_equal(batch[0], X)
    ((named,),) = as_dataset({"left": X, "right": Y})
    np.testing.assert_array_equal(named["right"], Y)
    with pytest.raises(ValueError, match="Cannot tell whether"):
        as_dataset([[1.0, 2.0], [3.0, 4.0]])


def model(shape, count=1):
    inputs = [keras.Input(shape, name=f"in{i}") for i in range(count)]
    return keras.Model(inputs, [keras.layers.Flatten()(i) for i in inputs])


def test_known_shapes_tell_samples_from_batches():
    # Both parts have an axis of 2: only the model's shape tells.
    single = stream(X, np.eye(6)[:, :2])
    with pytest.raises(ValueError, match="of single samples"):
        check_inputs(single.element_spec[0], model((2,)), "train")
    check_inputs(single.batch(2).element_spec[0], model((2,)), "train")
    check_inputs(X, model((2,)), "train")
    check_inputs(X[..., None], model((2,)), "train")  # Keras drops the axis
    check_inputs({"in0": X}, model((None,)), "train")
    with pytest.raises(ValueError, match=r"Expected: \(3,\).*\(2,\)"):
        check_inputs(X, model((3,)), "train")
    with pytest.raises(ValueError, match=r"takes 2 inputs \(in0, in1\)"):
        check_inputs(X, model((2,), count=2), "train")


def test_sample_weights_reach_the_training_the_pruning_and_the_judging():
    weights = np.array([3.0, 0, 0, 0, 0, 1])
    data = kd.Data((X, Y, weights), (X, Y, weights))
    arguments = fit_arguments(data.train, 4, seed=0)
    assert arguments["sample_weight"] is weights
    assert steps_per_epoch(arguments) == 2
    assert steps_per_epoch({**arguments, "y": {"a": Y, "b": Y}}) == 2
    # Right on the first example alone, of weight 3 out of 4.
    teacher = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="zeros")]
    )
    teacher.layers[-1].bias.assign([1, 0, 0])
    pruned, _ = TeacherTargets(teacher, data, verbose=0).for_pruning(4)
    assert pruned.train[2] is weights
    found = Evaluator(kd.teachers.get(teacher), data).teacher_record()
    assert found.metrics["val_accuracy"] == 0.75


def test_texts_are_told_apart_in_a_fingerprint():
    def digest(*texts):
        array = np.array(texts, dtype=object)
        return fingerprint_of_split((array, Y[: len(texts)]))

    assert digest("a", "b") == digest("a", "b")
    assert digest("a", "b") != digest("a", "c")


def test_labels_of_other_sizes_are_told_the_remedy():
    stream = tf.data.Dataset.from_generator(
        lambda: ((np.zeros((2, n)), np.zeros((2, n))) for n in (3, 5)),
        output_signature=(tf.TensorSpec((None, None)),) * 2,
    )
    with pytest.raises(ValueError, match=r"\(3,\), \(5,\). Pad them"):
        labels_of(stream)
