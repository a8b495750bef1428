# SPDX-License-Identifier: Apache-2.0
"""EnsembleTeacher: the mean of probabilities, at each loss's temperature."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import log_softmax
from distillers.tiny import nll
from distillers.tiny import softmax
from keras_kd.data.splits import Data
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.targets.attached import outputs_of
from keras_kd.teachers import EnsembleTeacher
from keras_kd.teachers import FrozenTeacher
from keras_kd.teachers.ensemble import confidence
from keras_kd.teachers.ensemble import mixture
from keras_kd.training.teacher_targets import TeacherTargets
from selection import quick
from teachers.learning import digits
from teachers.learning import learned_agreement
from teachers.learning import network
from teachers.learning import trained

X, Y = features(), labels()
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}
RNG = np.random.default_rng(5)
MEMBERS = 3.0 * RNG.normal(size=(6, 3, 4))


def fit(teacher, y=Y, student=None, losses=None, fit_to=FIT, **compile_with):
    student = student or linear(2)
    losses = losses or kd.losses.SoftTargets(3.0)
    distiller = kd.Distiller(
        teacher, student, alpha=0.5, distillation_losses=losses
    )
    # Eagerly, since a few steps take less time than to trace one.
    compile_with = {
        "loss": cross_entropy(),
        "run_eagerly": True,
        **compile_with,
    }
    distiller.compile(keras.optimizers.SGD(0.1), **compile_with)
    history = distiller.fit(X, y, **fit_to).history
    return student, {name: values[-1] for name, values in history.items()}


def mean_at(members, temperature, weights=None):
    """Probabilities of the mixture; members on axis 1."""
    p = softmax(members / temperature)
    weights = (
        np.full(p.shape[:2], 1 / p.shape[1]) if weights is None else weights
    )
    return (p * weights[..., None]).sum(axis=1)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("weights", [None, [0.5, 0.2, 0.3]])
def test_mixture_equals_the_mean_of_probabilities(temperature, weights):
    logits = mixture(MEMBERS, temperature, weights).numpy()
    rows = None if weights is None else np.tile(weights, (6, 1))
    np.testing.assert_allclose(
        softmax(logits / temperature),
        mean_at(MEMBERS, temperature, rows),
        atol=1e-6,
    )


def test_mixture_is_not_the_mean_of_logits():
    mean_of_logits = softmax(MEMBERS.mean(axis=1) / 4.0)
    assert np.abs(mean_of_logits - mean_at(MEMBERS, 4.0)).max() > 0.02


def test_mixture_stays_finite():
    members = np.array([[[1e4, 0.0], [-1e4, 0.0]]])
    logits = mixture(members, 2.0, [1.0, 0.0]).numpy()
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(softmax(logits / 2.0), [[1.0, 0.0]], atol=1e-6)


def expected_confidence(members, y):
    errors = np.stack([nll(np.maximum(y, 0), m) for m in members], axis=1)
    weights = (1.0 - softmax(errors)) / (len(members) - 1)
    weights[y < 0] = 1.0 / len(members)
    return weights


def test_confidence_equals_its_formula():
    y = np.array([0, 3, -1, 1, 2, 2])
    weights = confidence(MEMBERS, y).numpy()
    members = np.moveaxis(MEMBERS, 1, 0)
    np.testing.assert_allclose(
        weights, expected_confidence(members, y), atol=1e-6
    )
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(weights[2], 1 / 3, atol=1e-6)


def test_confidence_prefers_the_member_that_is_right():
    members = np.array([[[9.0, 0.0], [0.0, 9.0]]])
    np.testing.assert_allclose(
        confidence(members, [0]).numpy(), [[1.0, 0.0]], atol=1e-3
    )


@pytest.mark.parametrize("weights", [None, "confidence"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_ensemble_teacher_gives_the_loss_of_its_formula(temperature, weights):
    y = np.where(np.arange(len(X)) % 3 == 0, -1, Y)
    models = [linear(1), linear(3), linear(4)]
    members = [dense(model, X) for model in models]
    shares = expected_confidence(members, y) if weights else None
    target = mean_at(np.stack(members, axis=1), temperature, shares)
    student = dense(linear(2), X)
    expected = kl(temperature * np.log(target), student, temperature).mean()
    _, logs = fit(
        EnsembleTeacher(models, weights),
        y,
        losses=kd.losses.SoftTargets(temperature),
        fit_to=ONCE,
    )
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-5)
    same = target.argmax(-1) == student.argmax(-1)
    assert logs["teacher_agreement"] == pytest.approx(same.mean())


def test_ensemble_teacher_takes_the_mean_at_the_temperature_of_each_loss():
    members = [dense(linear(seed), X) for seed in (1, 3)]
    losses = [kd.losses.SoftTargets(t, name=f"at_{t}") for t in (1, 8)]
    _, logs = fit([linear(1), linear(3)], losses=losses, fit_to=ONCE)
    for t in (1, 8):
        target = mean_at(np.stack(members, axis=1), t)
        expected = kl(t * np.log(target), dense(linear(2), X), t).mean()
        assert logs[f"at_{t}"] == pytest.approx(expected, rel=1e-5)


EQUAL_TO_ONE = {
    "of_one": lambda one, other: EnsembleTeacher([one]),
    "of_two_equals": lambda one, other: EnsembleTeacher([one, one]),
    "of_a_list": lambda one, other: [one, one],
    "with_weights_1_and_0": lambda one, other: EnsembleTeacher(
        [one, other], [1, 0]
    ),
    "by_confidence_in_equals": lambda one, other: EnsembleTeacher(
        [one, one], "confidence"
    ),
    "of_an_ensemble": lambda one, other: EnsembleTeacher(
        [EnsembleTeacher([one]), one]
    ),
}


@pytest.mark.parametrize(
    "make", quick(1, EQUAL_TO_ONE.values()), ids=EQUAL_TO_ONE
)
def test_ensemble_teacher_equals_a_single_one(make):
    single, expected = fit(linear(1))
    student, logs = fit(make(linear(1), linear(3)))
    assert_same_weights(student, single, 1e-5)
    assert logs == pytest.approx(expected, rel=1e-5)


def test_ensemble_teacher_does_not_depend_on_the_order_of_its_members():
    first, _ = fit(EnsembleTeacher([linear(1), linear(3)], [1, 3]))
    second, _ = fit(EnsembleTeacher([linear(3), linear(1)], [3, 1]))
    assert_same_weights(first, second, 1e-6)


def test_ensemble_teacher_mixes_heads():
    first, _ = fit([linear(1), linear(3)])
    second, _ = fit([linear(1, activation="softmax"), linear(3)])
    assert_same_weights(first, second, 1e-5)


@pytest.mark.parametrize("units", quick(1, [1, 3]))
def test_ensemble_teacher_averages_yes_no_units(units):
    y = RNG.integers(0, 2, (len(X), units))
    models = [linear(seed, units, "sigmoid") for seed in (1, 3)]
    target = np.mean([m(X).numpy() for m in models], axis=0)
    pairs = [
        np.log(np.stack([1 - p, p], axis=-1))
        for p in (target, 1 / (1 + np.exp(-dense(linear(2, units), X))))
    ]
    for weights in (None, "confidence"):
        teacher = EnsembleTeacher(models, weights)
        _, logs = fit(
            teacher,
            y,
            linear(2, units),
            kd.losses.SoftTargets(1.0),
            ONCE,
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
        )
        if weights is None:
            expected = kl(*pairs, 1.0).mean()
            assert logs["soft_targets"] == pytest.approx(expected, rel=1e-4)
            output = outputs_of(teacher, (X, y), verbose=False)
            np.testing.assert_allclose(
                1 / (1 + np.exp(-output)), target, atol=1e-5
            )
    assert logs["soft_targets"] != pytest.approx(expected, rel=1e-3)


def test_ensemble_teacher_keeps_the_promises_of_a_teacher():
    kd.testing.check_teacher([linear(1), linear(3)], X)


@pytest.mark.parametrize("ways", quick(1, [["xla"], ["graph", "xla"]]))
def test_ensemble_teacher_keeps_the_promises_in_training(ways):
    def make():
        teacher = EnsembleTeacher([linear(1), linear(3)], "confidence")
        distiller = kd.Distiller(teacher, linear(2))
        return distiller.compile("sgd", cross_entropy())

    kd.testing.check_distiller(make, X, Y, ways=ways)


def test_ensemble_teacher_is_not_stored_once():
    data = Data(train=(X, Y), validation=(X, Y))
    assert TeacherTargets(linear(1), data).runs_once
    stored = TeacherTargets([linear(1), linear(3)], data)
    assert not stored.runs_once
    other = TeacherTargets([linear(1), linear(4)], data)
    assert stored.fingerprint != other.fingerprint
    members = np.stack([dense(linear(seed), X) for seed in (1, 3)], axis=1)
    np.testing.assert_allclose(
        log_softmax(Evaluator(stored.teacher, data).test_answers["logits"]),
        np.log(mean_at(members, 1.0)),
        atol=1e-4,
    )


@pytest.mark.slow
def test_ensemble_teacher_shows_each_member_its_part_of_the_input():
    """Two teachers of half an image each, and a student that sees it all."""
    x, y = digits()
    halves = {"upper": x[:, :32], "lower": x[:, 32:]}

    def half(name, seed):
        model = keras.Sequential(
            [
                keras.Input((32,)),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        loss = cross_entropy()
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
        model.fit(halves[name], y, batch_size=64, epochs=12, verbose=0)
        return model

    models = {name: half(name, 1) for name in halves}
    teacher = EnsembleTeacher(
        [
            FrozenTeacher(model, preprocess=lambda x, name=name: x[name])
            for name, model in models.items()
        ]
    )
    inputs = {name: keras.Input((32,), name=name) for name in halves}
    student = keras.Model(
        inputs,
        network(16, seed=7)(keras.layers.Concatenate()(list(inputs.values()))),
    )
    distiller = kd.Distiller(teacher, student, temperature=2.0, alpha=1.0)
    distiller.compile(keras.optimizers.Adam(0.01))
    before = (student.predict(halves, verbose=0).argmax(-1) == y).mean()
    distiller.fit(halves, batch_size=64, epochs=10, verbose=0)
    after = (student.predict(halves, verbose=0).argmax(-1) == y).mean()
    assert before < 0.3 < 0.9 < after


@pytest.mark.slow
def test_ensemble_teacher_teaches_digits_better_than_its_members_know_them():
    x, y = digits()
    halves = [trained(1, slice(0, 400)), trained(2, slice(400, 800))]
    before, after = learned_agreement(
        EnsembleTeacher(halves, "confidence"), labels=y
    )
    assert before < 0.3 < 0.9 < after


def subclassed():
    class Subclassed(keras.Model):
        def call(self, x):
            return x[:, :3]

    return Subclassed()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: EnsembleTeacher([]), "at least one teacher"),
        (lambda: kd.Distiller([], linear(2)), "at least one teacher"),
        (lambda: EnsembleTeacher([linear(1)], "confidence"), "at least two"),
        (lambda: EnsembleTeacher([linear(1)], "best"), "`weights` must be"),
        (lambda: EnsembleTeacher([linear(1)], [1, 2]), "`weights` must be"),
        (lambda: EnsembleTeacher([linear(1)], [-1]), "none negative"),
        (lambda: EnsembleTeacher([linear(1)], [0]), "not all 0"),
        (lambda: EnsembleTeacher(["a.keras"]), "must be a trained keras.Model"),
        (
            lambda: kd.Distiller([linear(1), linear(3, 5)], linear(2)),
            r"same classes.*\(None, 3\), \(None, 5\).*ClassMapping",
        ),
        (
            lambda: kd.Distiller(
                [linear(1, 3, "softmax"), linear(3, 3, "sigmoid")], linear(2)
            ),
            "same classes.*probabilities of classes, probabilities of units",
        ),
        (
            lambda: kd.Distiller([linear(1), subclassed()], linear(2)),
            "cannot be read off it.*activation='linear'",
        ),
        (
            lambda: kd.Distiller(
                [linear(1)],
                linear(2),
                distillation_losses=kd.losses.FeatureMatching(
                    "scores", "scores"
                ),
            ),
            "EnsembleTeacher gives its output only",
        ),
    ],
)
def test_ensemble_teacher_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ensemble_teacher_refuses_the_student_as_a_member():
    student = linear(2)
    for teacher in (
        [linear(1), student],
        EnsembleTeacher([linear(1), FrozenTeacher(student)]),
    ):
        with pytest.raises(ValueError, match="are the same object"):
            kd.Distiller(teacher, student)
