# SPDX-License-Identifier: Apache-2.0
"""CallableTeacher: Python functions teach within a compiled step."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.ensemble import RandomForestClassifier

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import softmax
from keras_kd.targets.attached import outputs_of
from keras_kd.teachers import CallableTeacher
from selection import quick
from teachers.learning import digits
from teachers.learning import learned_agreement

X, Y = features(), labels()
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


def logits(x):
    assert isinstance(x, np.ndarray)
    return dense(linear(1), x)


def probabilities(x):
    return softmax(logits(x))


def fit(teacher, student=None, x=X, **compile_with):
    student = student or linear(2)
    distiller = kd.Distiller(teacher, student, alpha=0.5)
    distiller.compile(
        keras.optimizers.SGD(0.1), cross_entropy(), **compile_with
    )
    return student, distiller.fit(x, Y, **FIT).history


def test_callable_teacher_keeps_the_promises_of_a_teacher():
    kd.testing.check_teacher(CallableTeacher(logits), X)
    kd.testing.check_teacher(
        CallableTeacher(probabilities, (3,), activation="softmax"), X
    )


@pytest.mark.parametrize("mode", quick(1, ["eager", "graph", "steps"]))
def test_callable_teacher_equals_the_model_it_computes(mode):
    compile_with = {
        "eager": {"run_eagerly": True},
        "graph": {},
        "steps": {"steps_per_execution": 3},
    }[mode]
    expected, _ = fit(linear(1), run_eagerly=True)
    for teacher in (
        CallableTeacher(logits),
        CallableTeacher(probabilities, activation="softmax"),
    ):
        student, _ = fit(teacher, **compile_with)
        assert_same_weights(student, expected, 1e-5)


def test_callable_teacher_is_called_once_for_each_batch():
    sizes = []

    def counting(x):
        sizes.append(len(x))
        return logits(x)

    fit(CallableTeacher(counting))
    assert sizes == [8, 8, 8]


def test_callable_teacher_takes_a_dict_of_inputs():
    inputs = {"a": keras.Input((4,)), "b": keras.Input((4,))}
    both = keras.layers.Add()([inputs["a"], inputs["b"]])
    student = keras.Model(inputs, linear(2)(both))
    teacher = CallableTeacher(lambda x: logits(x["a"] + x["b"]))
    _, history = fit(teacher, student, {"a": X, "b": 0 * X}, run_eagerly=True)
    _, expected = fit(linear(1), run_eagerly=True)
    assert history["soft_targets"] == pytest.approx(expected["soft_targets"])


def test_callable_teacher_answers_a_whole_split_without_a_student():
    found = outputs_of(CallableTeacher(logits), (X, Y), 10, verbose=False)
    np.testing.assert_allclose(found, logits(X), rtol=1e-5)


@pytest.mark.slow
def test_callable_teacher_of_scikit_learn_teaches_digits():
    x, y = digits()
    forest = RandomForestClassifier(30, random_state=0).fit(x, y)
    teacher = CallableTeacher(forest.predict_proba, activation="softmax")
    before, after = learned_agreement(teacher)
    assert before < 0.3
    assert after > 0.9


def test_callable_teacher_tells_a_wrong_shape():
    teacher = CallableTeacher(lambda x: np.ones((len(x), 5)))
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"shape \(8, 3\).*shape \(8, 5\).*output_shape=\(5,\)",
    ):
        fit(teacher)


def test_callable_teacher_tells_that_classes_differ_before_training():
    teacher = CallableTeacher(logits, output_shape=(5,))
    with pytest.raises(ValueError, match="same classes"):
        kd.Distiller(teacher, linear(2))


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: CallableTeacher("model.onnx"), "`function` must be a func"),
        (lambda: CallableTeacher(logits, activation="relu"), "`activation`"),
        (
            lambda: kd.Distiller(CallableTeacher(logits), Subclassed()),
            "no single output of known shape.*output_shape=",
        ),
    ],
)
def test_callable_teacher_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
