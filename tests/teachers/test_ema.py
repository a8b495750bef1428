# SPDX-License-Identifier: Apache-2.0
"""EMATeacher: a moving average of the student, moved after every step."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from keras_kd.data.splits import Data
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.teachers import EMATeacher
from replicas import two_replicas
from selection import quick
from teachers.learning import digits
from teachers.learning import same_choice

X, Y = features(), labels()
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


class Steps(keras.callbacks.Callback):
    """Keeps the student's weights, as they are made and after each step."""

    def on_train_begin(self, logs=None):
        self.weights = [self.model.student.get_weights()]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.student.get_weights())


def fit(teacher, student=None, epochs=2, **compile_with):
    student = student or linear(2)
    distiller = kd.Distiller(teacher, student, alpha=0.5)
    distiller.compile(
        keras.optimizers.SGD(0.5), cross_entropy(), **compile_with
    )
    steps = Steps()
    history = distiller.fit(X, Y, epochs=epochs, callbacks=[steps], **FIT)
    return distiller, steps.weights, history.history


EAGER, XLA = {"run_eagerly": True}, {"jit_compile": True}
GRAPH = {"jit_compile": False}


@pytest.mark.parametrize("mode", quick(1, [EAGER, XLA, GRAPH]), ids=str)
def test_ema_teacher_of_momentum_0_is_the_student_one_step_behind(mode):
    teacher = EMATeacher(momentum=0.0, warm_up=False)
    distiller, _, history = fit(teacher, **mode)
    assert_same_weights(teacher.model, distiller.student, 1e-6)
    # In a step it is the very student that learns: nothing to distil.
    assert history["soft_targets"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert history["teacher_agreement"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("warm_up", "mode"),
    quick(
        3,
        [(False, EAGER), (True, EAGER), (True, GRAPH)]
        + [(False, GRAPH), (False, XLA), (True, XLA)],
    ),
    ids=str,
)
def test_ema_teacher_averages_as_the_formula_says(warm_up, mode):
    teacher = EMATeacher(momentum=0.6, warm_up=warm_up)
    student = mlp(layers.BatchNormalization(), seed=2)
    distiller, weights, _ = fit(teacher, student, **mode)
    average = weights[0]
    for step, after in enumerate(weights[1:], start=1):
        m = min(0.6, 1.0 - 1.0 / step) if warm_up else 0.6
        average = [
            m * np.float64(a) + (1 - m) * w
            for a, w in zip(average, after, strict=True)
        ]
    assert len(weights) == 7
    assert_same_weights(teacher.model, average, 1e-5)
    with pytest.raises(AssertionError):
        assert_same_weights(teacher.model, distiller.student, 1e-3)


def test_ema_teacher_momentum_can_be_assigned_without_retracing():
    teacher = EMATeacher(momentum=1.0, warm_up=False)
    one = {"jit_compile": True, "steps_per_execution": 1}
    distiller, weights, _ = fit(teacher, **one)
    assert_same_weights(teacher.model, weights[0])
    function = distiller.train_function
    teacher.momentum = 0.0
    distiller.fit(X, Y, **FIT)
    assert distiller.train_function is function
    assert_same_weights(teacher.model, distiller.student)


def test_ema_teacher_predicts_in_inference_mode_and_is_not_trained():
    student = mlp(layers.Dropout(0.9), seed=2)
    teacher = EMATeacher(momentum=1.0)
    teacher.bind(student)
    kd.testing.check_teacher(teacher, X, taps=["hidden", "output"])


def test_ema_teacher_is_in_no_file_and_resumes_from_the_student(tmp_path):
    distiller, _, _ = fit(EMATeacher(0.9), run_eagerly=True)
    assert len(distiller.weights) == len(distiller.student.weights) == 2
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.teacher is None
    loaded.teacher = resumed = EMATeacher(0.9)
    assert_same_weights(resumed.model, distiller.student)
    resumed.model.set_weights(distiller.teacher.model.get_weights())
    loaded.fit(X, Y, **FIT)
    with pytest.raises(AssertionError):
        assert_same_weights(resumed.model, distiller.teacher.model, 1e-4)


def test_ema_teacher_starts_anew_with_another_student():
    first, second = linear(1), linear(2)
    teacher = EMATeacher()
    kd.Distiller(teacher, first)
    model = teacher.model
    kd.Distiller(teacher, first)
    assert teacher.model is model
    kd.Distiller(teacher, second)
    assert_same_weights(teacher.model, second)


def test_ema_teacher_follows_inside_an_ensemble():
    average = EMATeacher(momentum=0.0, warm_up=False)
    distiller, _, _ = fit([linear(1), average], run_eagerly=True)
    assert_same_weights(average.model, distiller.student, 1e-6)


def test_ema_teacher_follows_under_a_distribution_strategy():
    expected = EMATeacher(momentum=0.6)
    fit(expected, run_eagerly=True)
    with two_replicas().scope():
        teacher = EMATeacher(momentum=0.6)
        fit(teacher, jit_compile=False)
    assert_same_weights(teacher.model, expected.model, 1e-5)


def test_ema_teacher_copies_a_student_with_a_lambda():
    student = mlp(layers.Lambda(lambda t: 2.0 * t), seed=2)
    teacher = EMATeacher(momentum=0.0, warm_up=False)
    fit(teacher, student, run_eagerly=True)
    assert_same_weights(teacher.model, student, 1e-6)
    np.testing.assert_allclose(teacher(X)["output"], student(X), rtol=1e-5)


@pytest.mark.slow
def test_ema_teacher_and_student_learn_digits_together():
    x, y = digits()
    student = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(10),
        ]
    )
    teacher = EMATeacher(momentum=0.95)
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=0.3)
    distiller.compile(keras.optimizers.Adam(0.01), cross_entropy())
    history = distiller.fit(
        x[:600], y[:600], epochs=15, batch_size=64, verbose=0
    ).history
    # The student is asked with dropout, its average without.
    agreement = history["teacher_agreement"]
    assert agreement[-1] > agreement[0] + 0.15
    unseen = x[600:]
    assert same_choice(student(unseen), teacher.model(unseen)) > 0.9
    assert same_choice(np.eye(10)[y[600:]], teacher.model(unseen)) > 0.75


def subclassed():
    class Subclassed(keras.Model):
        def call(self, x):
            return x[:, :3]

    return Subclassed()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: EMATeacher(momentum=1.5), "`momentum` must"),
        (lambda: EMATeacher()(X), "no student to follow"),
        (
            lambda: kd.Distiller(EMATeacher(), subclassed()),
            "must be built",
        ),
        (
            lambda: Evaluator(
                EMATeacher(), Data(train=(X, Y), validation=(X, Y))
            ).teacher_record(),
            "no student to follow",
        ),
    ],
)
def test_ema_teacher_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
