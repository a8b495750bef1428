# SPDX-License-Identifier: Apache-2.0
"""What a label loss of one's own takes is seen in what it returns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_kd as kd
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import nll
from keras_kd.distillers.own_losses import shown_by
from keras_kd.distillers.per_output import Output
from reference import bernoulli_targets

K = keras.losses
X, Y = features(), labels()
ROWS = np.eye(3, dtype="float32")[Y]


def hidden_bce(y, z):
    return K.binary_crossentropy(y, z, from_logits=True)


def hidden_cce(y, z):
    return K.categorical_crossentropy(y, z, from_logits=True)


def hidden_ids(y, z):
    return K.sparse_categorical_crossentropy(y, z, from_logits=True)


def one_against_the_rest(y, z):
    return hidden_bce(ops.one_hot(ops.cast(y, "int32"), z.shape[-1]), z)


def sigmoid_overlap(y, z):
    p = ops.sigmoid(z)
    return 1.0 - 2.0 * ops.sum(y * p) / ops.sum(y + p)


def softmax_overlap(y, z):
    return sigmoid_overlap(y, ops.log_softmax(z) - 1.0)


def focal(y, z):
    return -ops.sum(y * (1 - ops.softmax(z)) ** 2 * ops.log_softmax(z), -1)


def pinball(y, z):
    return ops.maximum(0.9 * (y - z), -0.1 * (y - z))


def regularised(y, z):
    """Depends on more than the differences, and not unit by unit."""
    return hidden_ids(y, z) + ops.mean(ops.square(z), axis=-1)


def packed(y, z):
    """Class id and weight side by side."""
    return hidden_ids(y[:, 0], z) * y[:, 1]


def weighted(y, z):
    return tf.nn.weighted_cross_entropy_with_logits(y, z, 3.0)


class Own(K.Loss):
    def call(self, y, z):
        return hidden_bce(y, z)


ROW, ID = (None, 3), (None,)


@pytest.mark.parametrize(
    ("loss", "shape", "dtype", "expected"),
    [
        (hidden_bce, ROW, "float32", "units"),
        (Own(), ROW, "float32", "units"),
        (weighted, ROW, "float32", "units"),
        (one_against_the_rest, ID, "int32", "units"),
        (hidden_cce, ROW, "int32", "classes"),
        (focal, ROW, "float32", "classes"),
        (softmax_overlap, ROW, "float32", "classes"),
        (hidden_ids, ID, "float32", "classes"),
        (packed, (None, 2), "float32", "classes"),
        (regularised, ID, "int32", "classes"),
        (regularised, ID, "float32", None),
        (sigmoid_overlap, ROW, "float32", None),
        (pinball, ROW, "float32", None),
        (lambda y, z: ops.square(y - z), ROW, "float32", None),
        (lambda y, z: ops.abs(y - z), ROW, "float32", None),
        (lambda y, z: y["box"] - z, ROW, "float32", None),
    ],
)
def test_shown_by_tells_classes_from_units_only_for_certain(
    loss, shape, dtype, expected
):
    given = keras.KerasTensor(shape, dtype)
    output = Output("output", keras.KerasTensor((None, 3)), given, loss)
    assert shown_by(output) == expected


@pytest.mark.parametrize("units", [2, 30_000])
@pytest.mark.parametrize("between", [(), (None,)])
def test_shown_by_serves_any_number_of_units_and_positions(units, between):
    shape = (None, *between, units)
    for loss, expected in ((hidden_bce, "units"), (hidden_cce, "classes")):
        given = keras.KerasTensor(shape)
        output = Output("output", keras.KerasTensor(shape), given, loss)
        assert shown_by(output) == expected


TEACHER = linear(1)
CLASSES = kl(dense(TEACHER, X), dense(linear(2), X), 2.0).mean()
UNITS = bernoulli_targets(dense(TEACHER, X), dense(linear(2), X), 2.0).mean()
NAMED = {"binary_crossentropy": hidden_cce, "mean_squared_error": hidden_cce}


def functional(seed):
    # Of a Sequential model Keras knows no names, which a dict needs.
    body = linear(seed)
    return keras.Model(body.inputs, body.outputs[0])


def fitted(loss, y, task=None, run_eagerly=True, teacher=TEACHER):
    distiller = kd.Distiller(teacher, functional(2), 2.0, task=task)
    distiller.compile("sgd", loss, metrics=[], run_eagerly=run_eagerly)
    return distiller.fit(X, y, batch_size=24, verbose=0)


def fit(*args, **kwargs):
    return fitted(*args, **kwargs).history["soft_targets"][0]


@pytest.mark.parametrize(
    ("loss", "y", "expected"),
    [
        (lambda y, z: hidden_bce(y, z), ROWS, UNITS),
        ([hidden_bce], ROWS, UNITS),
        ({"scores": hidden_bce}, ROWS, UNITS),
        (lambda y, z: hidden_cce(y, z), ROWS, CLASSES),
        ({"scores": hidden_cce}, ROWS, CLASSES),
        ([hidden_ids], Y, CLASSES),
    ],
)
def test_loss_hidden_in_a_function_is_distilled_as_what_it_is(
    loss, y, expected
):
    assert fit(loss, y) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NAMED)
def test_own_function_is_not_known_by_its_name(name):
    def own(y, z):
        return hidden_cce(y, z)

    own.__name__ = name
    history = fitted(own, ROWS).history
    assert history["soft_targets"][0] == pytest.approx(CLASSES, rel=1e-4)
    # Nor is it minimised unit by unit, as a binary one is.
    expected = nll(Y, dense(linear(2), X)).mean()
    assert history["student_loss"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_loss_of_unknown_meaning_is_an_error(run_eagerly):
    with pytest.raises(ValueError, match="one class of several, or a yes or"):
        fit(sigmoid_overlap, ROWS, run_eagerly=run_eagerly)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"task": kd.tasks.MultiLabel()}, UNITS),
        ({"task": kd.tasks.Classification(one_hot=True)}, CLASSES),
        ({"task": {"scores": kd.tasks.MultiLabel()}}, UNITS),
        ({"teacher": linear(1, activation="sigmoid")}, UNITS),
        ({"teacher": linear(1, activation="softmax")}, CLASSES),
    ],
)
def test_loss_of_unknown_meaning_is_read_by_what_else_is_known(known, expected):
    teacher = {"teacher": functional(1)} if "task" in known else {}
    found = fit(sigmoid_overlap, ROWS, **teacher, **known)
    assert found == pytest.approx(expected, rel=1e-4)


def test_each_of_several_outputs_is_read_by_its_own_loss():
    def two(seed):
        inputs = keras.Input((4,))
        ends = [linear(seed), linear(seed + 5)]
        named = zip(("a", "b"), ends, strict=True)
        outputs = {name: end(inputs) for name, end in named}
        return keras.Model(inputs, outputs), ends

    (teacher, theirs), (student, ours) = two(1), two(2)
    pairs = zip(theirs, ours, strict=True)
    (a, b) = [(dense(t, X), dense(s, X)) for t, s in pairs]
    losses = {name: kd.losses.SoftTargets(2.0) for name in ("a", "b")}
    distiller = kd.Distiller(teacher, student, distillation_losses=losses)
    loss = {"a": hidden_bce, "b": hidden_cce}
    distiller.compile("sgd", loss, run_eagerly=True)
    y = {"a": ROWS, "b": ROWS}
    history = distiller.fit(X, y, batch_size=24, verbose=0).history
    expected = bernoulli_targets(*a, 2.0).mean()
    found = [history[f"{name}_soft_targets"][0] for name in ("a", "b")]
    assert found == pytest.approx([expected, kl(*b, 2.0).mean()], rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ([K.BinaryCrossentropy(from_logits=True)], UNITS),
        ({"scores": hidden_bce}, UNITS),
        (hidden_cce, CLASSES),
        (sigmoid_overlap, None),
    ],
)
def test_students_that_teach_each_other_are_read_alike(loss, expected):
    mutual = kd.MutualDistiller([functional(2), functional(1)], 2.0)
    mutual.compile("sgd", loss, run_eagerly=True)
    if expected is None:
        with pytest.raises(ValueError, match="cannot be told for certain"):
            mutual.fit(X, ROWS, batch_size=24, verbose=0)
        return
    history = mutual.fit(X, ROWS, batch_size=24, verbose=0).history
    found = history["student_1_soft_targets"][0]
    assert found == pytest.approx(expected, rel=1e-4)
