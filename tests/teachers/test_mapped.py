# SPDX-License-Identifier: Apache-2.0
"""ClassMapping: other orders and subsets of classes, given explicitly."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import softmax
from keras_kd.data.splits import Data
from keras_kd.teachers import ClassMapping
from keras_kd.teachers import EnsembleTeacher
from keras_kd.training.teacher_targets import TeacherTargets
from selection import quick
from teachers.learning import digits
from teachers.learning import network
from teachers.learning import same_choice
from teachers.learning import trained

X, Y = features(), labels()
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}


def fit(teacher):
    student = linear(2)
    distiller = kd.Distiller(teacher, student, temperature=3.0, alpha=0.5)
    optimizer = keras.optimizers.SGD(0.1)
    distiller.compile(optimizer, cross_entropy(), run_eagerly=True)
    distiller.fit(X, Y, **FIT)
    return student


def reordered(order, activation=None):
    """The model `linear(1)` with its classes in another order."""
    model = linear(1, activation=activation)
    kernel, bias = linear(1).get_weights()
    model.set_weights([kernel[:, order], bias[order]])
    return model


@pytest.mark.parametrize("activation", quick(1, [None, "softmax"]))
def test_class_mapping_undoes_an_order(activation):
    mapped = ClassMapping(reordered([2, 0, 1], activation), [2, 0, 1], 3)
    plain = fit(linear(1))
    assert_same_weights(fit(mapped), plain, 1e-5)
    assert not np.allclose(
        fit(reordered([2, 0, 1])).get_weights()[0],
        plain.get_weights()[0],
        atol=1e-3,
    )


def test_class_mapping_gives_unknown_classes_no_probability():
    mapped = ClassMapping(linear(1, 2), [3, 1], 4)
    mapped.prepare(["output"])
    logits = mapped(X)["output"].numpy()
    known = dense(linear(1, 2), X)
    for temperature in (1.0, 90.0):
        expected = np.zeros((len(X), 4))
        expected[:, [3, 1]] = softmax(known / temperature)
        p = softmax(logits / temperature)
        np.testing.assert_allclose(p, expected, atol=1e-5)
        assert p[:, [0, 2]].max() < 1e-40


def test_class_mapping_leaves_out_classes_the_student_does_not_have():
    mapped = ClassMapping(linear(1, 5), [None, 1, 0, None, 2], 3)
    mapped.prepare(["output"])
    expected = softmax(dense(linear(1, 5), X)[:, [2, 1, 4]])
    np.testing.assert_allclose(
        softmax(mapped(X)["output"].numpy()), expected, atol=1e-5
    )


def test_class_mapping_of_yes_no_units_leaves_the_others_alone():
    mapped = ClassMapping(linear(1, 2, "sigmoid"), [2, 0], 3)
    mapped.prepare(["output"])
    assert mapped.binary
    given = 1 / (1 + np.exp(-mapped(X)["output"].numpy().astype("float64")))
    expected = np.zeros((len(X), 3))
    expected[:, [2, 0]] = 1 / (1 + np.exp(-dense(linear(1, 2), X)))
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_class_mapping_and_ensemble_go_together_in_either_order():
    one, other = reordered([2, 0, 1]), linear(3)
    expected = fit([linear(1), other])
    inside = EnsembleTeacher([ClassMapping(one, [2, 0, 1], 3), other])
    assert_same_weights(fit(inside), expected, 1e-5)
    both = EnsembleTeacher([one, one], "confidence")
    outside = ClassMapping(both, [2, 0, 1], 3)
    assert outside.label_aware and not outside.can_be_stored
    assert_same_weights(fit(outside), fit(linear(1)), 1e-5)


def test_class_mapping_keeps_the_promises_of_a_teacher():
    kd.testing.check_teacher(ClassMapping(linear(1, 2), [3, 1], 4), X)


def test_class_mapping_is_part_of_its_fingerprint():
    data = Data(train=(X, Y), validation=(X, Y))
    first, second = (
        TeacherTargets(ClassMapping(linear(1), order, 3), data).fingerprint
        for order in ([0, 1, 2], [2, 1, 0])
    )
    assert first != second


@pytest.mark.slow
def test_class_mapping_lets_teachers_of_some_digits_teach_all():
    x, y = digits()
    low = y < 5
    models = []
    for rows, first in ((low, 0), (~low, 5)):
        model = network(32, seed=first, units=5)
        model.compile(keras.optimizers.Adam(0.01), cross_entropy())
        model.fit(x[rows], y[rows] - first, epochs=8, verbose=0)
        models.append(ClassMapping(model, range(first, first + 5), 10))
    teacher = EnsembleTeacher(models, "confidence")
    student = network(16, seed=7)
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=1.0)
    distiller.compile(keras.optimizers.Adam(0.01))
    distiller.fit(x, y, epochs=10, batch_size=64, verbose=0)
    assert same_choice(np.eye(10)[y], student(x)) > 0.9


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ClassMapping(linear(1), [0, 0, 1], 3), "another class"),
        (lambda: ClassMapping(linear(1), [0, 1, 3], 3), "from 0 to 2"),
        (lambda: ClassMapping(linear(1), [None] * 3, 3), "`classes` must"),
        (
            lambda: kd.Distiller(ClassMapping(linear(1), [0, 1], 3), linear(2)),
            r"an entry for each class.*2 entries.*\(None, 3\)",
        ),
        (
            lambda: kd.Distiller(
                ClassMapping(linear(1), [0, 1, 2], 5), linear(2)
            ),
            "same classes",
        ),
    ],
)
def test_class_mapping_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_class_mapping_takes_part_in_training_with_its_models_unchanged():
    model = trained(1, epochs=1)
    before = [w.copy() for w in model.get_weights()]
    teacher = ClassMapping(model, range(10), 10)
    assert teacher.models == (model,)
    distiller = kd.Distiller(teacher, network(8), alpha=1.0).compile("sgd")
    distiller.fit(digits()[0], verbose=0)
    assert_same_weights(before, model)
