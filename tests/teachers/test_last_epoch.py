# SPDX-License-Identifier: Apache-2.0
"""LastEpochTeacher: the student of one epoch ago, renewed every epoch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import log_softmax
from distillers.tiny import mlp
from keras_kd.teachers import LastEpochTeacher
from replicas import two_replicas
from selection import quick

X, Y = features(), labels()
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}  # 3 steps an epoch
MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
}


class Copies(keras.callbacks.Callback):
    """Keeps the weights of student and copy after each step."""

    def on_train_begin(self, logs=None):
        self.student = [self.model.student.get_weights()]
        self.copy = [self.model.teacher.model.get_weights()]

    def on_train_batch_end(self, batch, logs=None):
        self.student.append(self.model.student.get_weights())
        self.copy.append(self.model.teacher.model.get_weights())


def fit(teacher, student=None, epochs=2, alpha=0.5, **compile_with):
    student = student or linear(2)
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=alpha)
    distiller.compile(
        keras.optimizers.SGD(0.5), cross_entropy(), **compile_with
    )
    copies = Copies()
    distiller.fit(X, Y, epochs=epochs, callbacks=[copies], **FIT)
    return distiller, copies


@pytest.mark.parametrize("mode", quick(1, MODES.values()), ids=MODES)
def test_last_epoch_teacher_is_the_student_at_the_last_multiple(mode):
    student = mlp(layers.BatchNormalization(), seed=2)
    _, copies = fit(LastEpochTeacher(steps_per_epoch=4), student, 3, **mode)
    assert len(copies.copy) == 10
    for step, copy in enumerate(copies.copy):
        assert_same_weights(copy, copies.student[step // 4 * 4], 1e-6)
    with pytest.raises(AssertionError):
        assert_same_weights(copies.copy[-1], copies.student[-1], 1e-3)


@pytest.mark.parametrize("mode", quick(2, MODES.values()), ids=MODES)
def test_last_epoch_teacher_gives_the_loss_of_the_paper(mode):
    """CE with `(1 - a) y + a p`, up to the entropy of p: constant."""
    teacher = LastEpochTeacher(steps_per_epoch=1)
    student = linear(2)
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=0.0)
    distiller.compile(keras.optimizers.SGD(0.5), cross_entropy(), **mode)
    whole = {"batch_size": len(X), "verbose": 0}
    distiller.fit(X, Y, **whole)
    assert_same_weights(teacher.model, student, 1e-6)
    # The copy now says what the student says: move the student on.
    copied = dense(student, X)
    student.set_weights([0.5 * w for w in student.get_weights()])
    now = dense(student, X)
    distiller.alpha = 0.3
    loss = distiller.fit(X, Y, **whole).history["loss"][0]
    p, target = np.exp(log_softmax(copied)), np.eye(3)[Y]
    soft = 0.7 * target + 0.3 * p
    entropy = -(p * log_softmax(copied)).sum(-1)
    expected = -(soft * log_softmax(now)).sum(-1) - 0.3 * entropy
    assert loss == pytest.approx(expected.mean(), rel=1e-5)
    assert kl(copied, now, 1.0).mean() > 0.01


def test_last_epoch_teacher_with_a_schedule_starts_as_plain_training():
    rising = kd.callbacks.Schedule("alpha", kd.callbacks.progressive(0.8, 4))
    plain = linear(2)
    plain.compile(keras.optimizers.SGD(0.5), cross_entropy(), run_eagerly=True)
    plain.fit(X, Y, **FIT)
    distiller = kd.Distiller(LastEpochTeacher(3), linear(2), temperature=1.0)
    distiller.compile(
        keras.optimizers.SGD(0.5), cross_entropy(), jit_compile=False
    )
    history = distiller.fit(X, Y, callbacks=[rising], **FIT).history
    assert_same_weights(distiller.student, plain, 1e-6)
    function = distiller.train_function
    history = distiller.fit(
        X, Y, initial_epoch=1, epochs=4, callbacks=[rising], **FIT
    ).history
    assert history["alpha"] == pytest.approx([0.4, 0.6, 0.8])
    assert all(value > 0.0 for value in history["soft_targets"])
    assert distiller.train_function is function


# EMATeacher, which moves its weights in the same way, has a quick test.
@pytest.mark.slow
def test_last_epoch_teacher_follows_in_replicas():
    expected = LastEpochTeacher(steps_per_epoch=4)
    _, alone = fit(expected, run_eagerly=True)
    with two_replicas().scope():
        teacher = LastEpochTeacher(steps_per_epoch=4)
        _, both = fit(teacher, jit_compile=False)
    assert_same_weights(teacher.model, expected.model, 1e-5)
    assert_same_weights(teacher.model, both.student[4], 1e-5)
    for variable in teacher.model.weights:
        values = [v.numpy() for v in variable.value.values]
        np.testing.assert_array_equal(values[0], values[1])


def test_last_epoch_teacher_copies_a_student_with_a_lambda():
    student = mlp(layers.Lambda(lambda t: 2.0 * t), seed=2)
    teacher = LastEpochTeacher(steps_per_epoch=6)
    fit(teacher, student, run_eagerly=True)
    np.testing.assert_allclose(teacher(X)["output"], student(X), rtol=1e-6)


def test_last_epoch_teacher_keeps_the_promises_of_a_teacher():
    student = mlp(layers.Dropout(0.9), seed=2)
    teacher = LastEpochTeacher(steps_per_epoch=1000)
    teacher.bind(student)
    kd.testing.check_teacher(teacher, X, taps=["hidden", "output"])


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, None])
def test_last_epoch_teacher_refuses_steps_that_are_no_count(steps):
    with pytest.raises(ValueError, match="`steps_per_epoch` must be"):
        LastEpochTeacher(steps)


def test_last_epoch_teacher_cannot_teach_before_it_has_a_student():
    with pytest.raises(ValueError, match="LastEpochTeacher has no student"):
        LastEpochTeacher(3)(X)
