# SPDX-License-Identifier: Apache-2.0
"""One teacher that several distillers use at the same time."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from keras_kd.teachers import CallableTeacher
from keras_kd.teachers import EMATeacher
from keras_kd.teachers import EnsembleTeacher
from keras_kd.teachers import FrozenTeacher
from keras_kd.teachers import Teacher
from selection import quick

X, Y = features(), labels()
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}


def distiller_of(teacher, student, losses):
    distiller = kd.Distiller(teacher, student, distillation_losses=losses)
    optimizer = keras.optimizers.SGD(0.1)
    return distiller.compile(optimizer, cross_entropy(), run_eagerly=True)


def model():
    second = keras.initializers.GlorotUniform(7)
    layer = keras.layers.Dense(5, kernel_initializer=second, name="second")
    return mlp(layer, width=8, seed=1)


class HoldsItsPass(Teacher):
    """A teacher as a user writes one: `prepare` keeps what it needs."""

    def __init__(self, model):
        self.model = model

    def prepare(self, names):
        self.tapped = kd.tap(self.model, names)

    def __call__(self, x):
        return self.tapped(x, training=False)


@pytest.mark.parametrize("kind", quick(1, [FrozenTeacher, HoldsItsPass]))
def test_teacher_of_two_distillers_gives_each_its_own_taps(kind):
    def losses(tap, own):
        match = kd.losses.FeatureMatching(tap, own, projector=None)
        return [kd.losses.SoftTargets(3.0), match]

    def both(first, second):
        """Both distillers are made before either is trained."""
        students = mlp(width=8, seed=2), mlp(width=5, seed=3)
        pair = [
            distiller_of(first, students[0], losses("hidden", "hidden")),
            distiller_of(second, students[1], losses("second", "hidden")),
        ]
        return [d.fit(X, Y, **FIT).history for d in pair], students

    shared = kind(model())
    histories, students = both(shared, shared)
    expected, others = both(kind(model()), kind(model()))
    assert histories == expected
    for student, other in zip(students, others, strict=True):
        assert_same_weights(student, other, 0.0)


def test_teacher_in_an_ensemble_teaches_features_elsewhere_too():
    shared = FrozenTeacher(model())
    match = kd.losses.FeatureMatching("hidden", "hidden", projector=None)
    alone = distiller_of(shared, mlp(width=8, seed=2), match)
    together = distiller_of(
        EnsembleTeacher([shared, linear(4)]), linear(2), None
    )
    assert together.fit(X, Y, **FIT).history["soft_targets"][0] > 0.0
    received = alone.fit(X, Y, **FIT).history
    fresh = distiller_of(FrozenTeacher(model()), mlp(width=8, seed=2), match)
    assert received == fresh.fit(X, Y, **FIT).history


def test_callable_teacher_takes_the_shape_of_each_student():
    def answer(x):
        return np.tile(x.sum(axis=1, keepdims=True), (1, 3))

    teacher = CallableTeacher(answer)
    three = distiller_of(teacher, linear(2), None)
    distiller_of(teacher, linear(2, 5), None)
    assert np.isfinite(three.fit(X, Y, **FIT).history["loss"][0])


def test_ema_teacher_follows_each_of_two_students():
    shared = EMATeacher(momentum=0.0, warm_up=False)
    pair = [distiller_of(shared, linear(seed), None) for seed in (2, 3)]
    averages = [d._loss_terms.teacher.model for d in pair]
    for distiller, average in zip(pair, averages, strict=True):
        distiller.fit(X, Y, **FIT)
        assert_same_weights(distiller.student, average, 0.0)
    assert shared.model is averages[-1]
    shared.momentum = 0.5
    assert pair[0]._loss_terms.teacher.momentum == 0.5
