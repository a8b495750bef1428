# SPDX-License-Identifier: Apache-2.0
"""What an output is, is known, said or seen in its values; never guessed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import softmax
from reference import bernoulli_targets

X, Y = features(), labels()
BCE = keras.losses.BinaryCrossentropy
PROBABILITIES = softmax(dense(linear(1), X)).astype("float32")
LOGITS = (dense(linear(1), X)).astype("float32")


def distiller_of(teacher, student=None, loss=None, **kwargs):
    kwargs.setdefault("temperature", 2.0)
    distiller = kd.Distiller(teacher, student or linear(2), **kwargs)
    loss = cross_entropy() if loss is None else loss
    return distiller.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)


def soft(distiller, x=X, y=Y):
    """Returns the first value of SoftTargets."""
    history = distiller.fit(x, y, batch_size=24, verbose=0).history
    return history["soft_targets"][0]


def after(last, *activations):
    """A model that is `last` of dense layers with these activations."""
    inputs = keras.Input((4,))
    parts = [
        layers.Dense(
            3,
            activation,
            kernel_initializer=keras.initializers.RandomNormal(0, 1, seed),
        )(inputs)
        for seed, activation in enumerate(activations)
    ]
    return keras.Model(inputs, last(*parts))


class Own(layers.Layer):
    def call(self, x):
        return ops.softmax(x)


UNKNOWN = {
    "average of softmaxes": lambda: after(
        lambda *parts: layers.Average()(parts), "softmax", "softmax"
    ),
    "clip": lambda: after(lambda x: ops.clip(x, 0.0, 1.0), "softmax"),
    "lambda": lambda: after(layers.Lambda(ops.softmax), None),
    "own layer": lambda: after(Own(), None),
    "product": lambda: after(lambda x: ops.multiply(x, 1.0), "softmax"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_probabilities_of_an_unknown_end_are_seen_in_their_values(name):
    teacher, student = UNKNOWN[name](), linear(2)
    p = teacher.predict(X, verbose=0)
    expected = kl(np.log(p), dense(student, X), 2.0).mean()
    assert soft(distiller_of(teacher, student)) == pytest.approx(
        expected, rel=1e-3
    )


@pytest.mark.parametrize("given", [PROBABILITIES, LOGITS])
def test_stored_arrays_and_functions_are_seen_in_their_values(given):
    expected = kl(LOGITS, dense(linear(2), X), 2.0).mean()
    stored = kd.attach_targets(X, {"output": given})
    assert soft(distiller_of(None), stored) == pytest.approx(expected, rel=1e-3)

    def answer(x):
        z = dense(linear(1), x)
        return softmax(z) if given is PROBABILITIES else z

    teacher = kd.teachers.CallableTeacher(answer)
    assert soft(distiller_of(teacher)) == pytest.approx(expected, rel=1e-3)


UNCERTAIN = np.abs(LOGITS) + 0.5


@pytest.mark.parametrize("said", ["logits", "probabilities"])
def test_what_is_said_of_stored_targets_counts(said):
    """Numbers that could be either, where nobody says it."""
    given = LOGITS - LOGITS.min() if said == "logits" else PROBABILITIES
    expected = kl(LOGITS, dense(linear(2), X), 2.0).mean()
    for outputs in (said, {"output": said}):
        stored = kd.attach_targets(X, {"output": given}, outputs)
        received = soft(distiller_of(None), stored)
        assert received == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_uncertain_values_are_an_error_that_shows_their_range(run_eagerly):
    student = linear(2)
    distiller = distiller_of(None, student)
    distiller.run_eagerly = run_eagerly
    stored = kd.attach_targets(X, {"output": UNCERTAIN})
    with pytest.raises(ValueError, match="cannot be told for certain") as error:
        distiller.fit(stored, Y, batch_size=24, verbose=0)
    low, high = UNCERTAIN.min(), UNCERTAIN.max()
    assert f"from {low:.3g} to {high:.3g}" in str(error.value)
    assert "outputs='logits'" in str(error.value)
    assert np.all(np.isfinite(student.get_weights()[0]))


def test_uncertain_batches_are_what_the_batches_before_were():
    """Logits with nothing below 0 by chance, after some that had."""
    given = np.concatenate([LOGITS[:20], np.abs(LOGITS[20:])])
    distiller = distiller_of(None)
    stored = kd.attach_targets(X, {"output": given})
    fit = {"batch_size": 20, "shuffle": False, "verbose": 0}
    distiller.fit(stored, Y, **fit)
    changing = np.concatenate([LOGITS[:20], PROBABILITIES[20:]])
    stored = kd.attach_targets(X, {"output": changing})
    with pytest.raises(ValueError, match="the same in all batches"):
        distiller.fit(stored, Y, **fit)


def test_probabilities_that_are_none_are_an_error():
    stored = kd.attach_targets(X, {"output": LOGITS}, "probabilities")
    with pytest.raises(ValueError, match="each row must sum to 1. Received"):
        soft(distiller_of(None), stored)


# Softmax and sigmoid.


def test_softmax_teaches_sigmoid_units_its_bernoulli_logits():
    teacher = linear(1, activation="softmax")
    student = linear(2, activation="sigmoid")
    y = np.eye(3)[Y].astype("float32")
    p = PROBABILITIES.astype("float64")
    expected = bernoulli_targets(
        np.log(p) - np.log1p(-p), dense(student, X), 2.0
    ).mean()
    for given, x in (
        (teacher, X),
        (None, kd.attach_targets(X, {"output": PROBABILITIES})),
    ):
        distiller = distiller_of(given, linear(2, activation="sigmoid"), BCE())
        assert soft(distiller, x, y) == pytest.approx(expected, rel=1e-3)


def test_softmax_student_of_a_binary_loss_learns_classes():
    """One-hot labels and a binary cross-entropy do not make it units."""
    student = linear(2, activation="softmax")
    y = np.eye(3)[Y].astype("float32")
    expected = kl(LOGITS, dense(student, X), 2.0).mean()
    distiller = distiller_of(linear(1, activation="softmax"), student, BCE())
    assert soft(distiller, X, y) == pytest.approx(expected, rel=1e-3)


def test_sigmoid_units_teach_classes_only_where_that_is_asked_for():
    units = linear(1, activation="sigmoid")
    student = linear(2, activation="softmax")
    loss = keras.losses.SparseCategoricalCrossentropy()
    with pytest.raises(ValueError, match="yes/no units.*='softmax'"):
        soft(distiller_of(units, student, loss))
    p = 1.0 / (1.0 + np.exp(-LOGITS.astype("float64")))
    expected = kl(np.log(p), dense(student, X), 2.0).mean()
    scaled = kd.teachers.FrozenTeacher(units, activation="softmax")
    received = soft(distiller_of(scaled, student, loss))
    assert received == pytest.approx(expected, rel=1e-3)


# Values.


def test_default_loss_on_values_is_an_error_before_training():
    distiller = kd.Distiller(linear(1, units=1), linear(2, units=1))
    for loss in ("mse", keras.losses.Huber(), ["mae"], {"output": "mse"}):
        with pytest.raises(ValueError, match="is values.*kd.losses.Regression"):
            distiller.compile("sgd", loss)
    distiller = kd.Distiller(linear(1, units=1), linear(2, units=1))
    with pytest.raises(ValueError, match="Nothing says that the outputs are"):
        distiller.compile("sgd")


def test_teacher_that_was_trained_on_numbers_gives_values():
    teacher = linear(1)
    teacher.compile("sgd", "mse")
    with pytest.raises(ValueError, match="the teacher's output is values"):
        kd.Distiller(teacher, linear(2), alpha=1.0).compile("sgd")


@pytest.mark.parametrize(
    "known",
    [
        {"temperature": 4.0},
        {"outputs": "logits"},
        {"teacher": linear(1, activation="softmax")},
        {"teacher": kd.teachers.FrozenTeacher(linear(1), outputs="logits")},
    ],
    ids=["temperature", "student", "softmax", "teacher"],
)
def test_class_scores_without_a_label_loss_are_known_by_one_word(known):
    arguments = {"teacher": linear(1), "student": linear(2), **known}
    kd.Distiller(alpha=1.0, **arguments).compile("sgd")


def test_regression_distils_numbers():
    teacher, student = linear(1, units=1), linear(2, units=1)
    before = [dense(model, X) for model in (teacher, student)]
    distiller = kd.Distiller(
        teacher, student, distillation_losses=kd.losses.Regression()
    ).compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    history = distiller.fit(X, X[:, :1], batch_size=24, verbose=0).history
    expected = np.square(before[0] - before[1]).mean()
    assert history["regression"][0] == pytest.approx(expected, rel=1e-4)
    assert "teacher_agreement" not in history


@pytest.mark.parametrize("units", [1, 3])
def test_regression_of_a_teacher_scaled_by_k_is_scaled_by_k(units):
    """What a student learns from zero on, step by step, by alpha = 1."""

    def taught(k):
        teacher, student = linear(1, units=units), linear(2, units=units)
        teacher.set_weights([k * w for w in teacher.get_weights()])
        student.set_weights([0.0 * w for w in student.get_weights()])
        distiller = kd.Distiller(
            teacher, student, alpha=1.0, task=kd.tasks.Regression()
        )
        distiller.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        fit = {"batch_size": 12, "epochs": 2, "shuffle": False, "verbose": 0}
        history = distiller.fit(X, **fit).history
        return student.get_weights(), history["regression"]

    (weights, values), (scaled, scaled_values) = taught(1.0), taught(50.0)
    for one, many in zip(weights, scaled, strict=True):
        np.testing.assert_allclose(many, 50.0 * one, rtol=1e-3, atol=1e-3)
    assert scaled_values == pytest.approx(
        [2500.0 * v for v in values], rel=1e-3
    )
    assert np.any(weights[0])


def test_regression_with_a_margin_is_given_the_labels_as_they_are():
    teacher, student = linear(1, units=1), linear(2, units=1)
    before = [dense(model, X)[:, 0] for model in (teacher, student)]
    y = X[:, 0] / 3.0
    distiller = kd.Distiller(
        teacher, student, distillation_losses=kd.losses.Regression(margin=0.1)
    ).compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    history = distiller.fit(X, y, batch_size=24, verbose=0).history
    bound, own = (np.square(values - y) for values in before)
    expected = np.where(own + 0.1 > bound, own, 0.0)
    assert 0 < np.count_nonzero(expected) < len(X)
    assert history["regression"][0] == pytest.approx(expected.mean(), rel=1e-4)


# Where the student cannot be read.


class Subclassed(keras.Model):
    def __init__(self, seed, activation):
        super().__init__()
        self.model = linear(seed)
        self.end = Own() if activation else layers.Identity()

    def call(self, x):
        return ops.multiply(self.end(self.model(x)), 1.0)


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("with_loss", [True, False])
def test_student_is_read_by_its_label_loss_or_its_values(activation, with_loss):
    expected, fit = linear(2), {"shuffle": False, "verbose": 0}
    distiller_of(linear(1), expected, alpha=1.0).fit(X, Y, **fit)
    student = Subclassed(2, activation)
    distiller = kd.Distiller(linear(1), student, 2.0, alpha=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=activation is None
    )
    distiller.compile(
        keras.optimizers.SGD(0.1), loss if with_loss else None, run_eagerly=True
    )
    distiller.fit(X, Y if with_loss else None, **fit)
    assert_same_weights(student.model, expected, 1e-4)
