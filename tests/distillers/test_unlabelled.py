# SPDX-License-Identifier: Apache-2.0
"""Examples without a label are learned from the teacher only."""

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
from distillers.tiny import nll
from distillers.tiny import softmax
from keras_kd.distillers.guarded import GuardedLoss
from keras_kd.distillers.step_checks import StepChecks
from selection import quick

X, Y = features(), labels()
HAS_LABEL = np.arange(len(X)) % 3 != 0
MIXED = np.where(HAS_LABEL, Y, -1)
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}


def fit(alpha, *data, teacher=None, student=None, compile_with=None, **fit_to):
    student = student or linear(seed=2)
    distiller = kd.Distiller(teacher or linear(seed=1), student, 4.0, alpha)
    distiller.compile(
        keras.optimizers.SGD(0.5),
        **{
            "loss": cross_entropy(),
            "run_eagerly": True,
            **(compile_with or {}),
        },
    )
    history = distiller.fit(*data, **{**ONCE, **fit_to}).history
    return student, {key: values[-1] for key, values in history.items()}


@pytest.mark.parametrize("loss", quick(1, [None, cross_entropy()]))
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_distiller_alpha_1_needs_no_labels(loss, run_eagerly):
    compile_with = {"loss": loss, "run_eagerly": run_eagerly}
    student, logs = fit(1.0, X, compile_with=compile_with, epochs=3)
    labelled, labelled_logs = fit(1.0, X, Y, epochs=3)
    assert_same_weights(student, labelled, 1e-6)
    assert logs["loss"] == pytest.approx(labelled_logs["loss"])
    assert logs["loss"] == logs["soft_targets"]
    assert "student_loss" not in logs


def test_distiller_without_labels_takes_metrics_that_have_nothing_to_read():
    _, logs = fit(1.0, X, compile_with={"loss": None, "metrics": ["accuracy"]})
    assert set(logs) == {
        "loss",
        "soft_targets",
        "teacher_agreement",
    }


def test_distiller_without_labels_validates_on_labels():
    _, logs = fit(
        1.0,
        X,
        compile_with={"metrics": ["accuracy"]},
        validation_data=(X, Y),
    )
    assert 0.0 <= logs["val_accuracy"] <= 1.0
    assert logs["val_loss"] > 0.0


def test_distiller_without_a_loss_counts_metrics_on_labels():
    _, logs = fit(
        1.0,
        X,
        Y,
        compile_with={"loss": None, "metrics": ["sparse_categorical_accuracy"]},
        validation_data=(X, Y),
    )
    assert "val_loss" not in logs  # there is none, so it is no 0 either
    expected = (np.argmax(dense(linear(seed=2), X), -1) == Y).mean()
    assert logs["sparse_categorical_accuracy"] == pytest.approx(expected)


def test_distiller_mixed_labels_equal_a_step_by_hand():
    before, targets = dense(linear(seed=2), X), dense(linear(seed=1), X)
    kernel = linear(seed=2).get_weights()[0]
    student, logs = fit(0.25, X, MIXED, compile_with={"metrics": ["accuracy"]})

    hard = (nll(Y, before) * HAS_LABEL).mean()
    soft = kl(targets, before, 4.0).mean()
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-5)
    assert logs["loss"] == pytest.approx(0.25 * soft + 0.75 * hard, rel=1e-5)
    push = (softmax(before) - np.eye(3)[Y]) * HAS_LABEL[:, None]
    pull = 4.0 * (softmax(before / 4.0) - softmax(targets / 4.0))
    gradient = (0.75 * push + 0.25 * pull) / len(X)
    np.testing.assert_allclose(
        student.get_weights()[0], kernel - 0.5 * X.T @ gradient, atol=1e-5
    )
    # Metrics pass over what has no label.
    right = (np.argmax(before, -1) == Y)[HAS_LABEL]
    assert logs["accuracy"] == pytest.approx(right.mean())


@pytest.mark.parametrize(
    "shape", quick(1, [pytest.param((-1, 1)), pytest.param((-1,))])
)
def test_distiller_mixed_labels_may_have_an_axis_of_one(shape):
    student, logs = fit(
        0.5,
        X,
        MIXED.reshape(shape),
        compile_with={"metrics": ["accuracy"], "run_eagerly": False},
    )
    reference, reference_logs = fit(
        0.5, X, MIXED, compile_with={"metrics": ["accuracy"]}
    )
    assert_same_weights(student, reference, 1e-6)
    for key, value in reference_logs.items():
        assert logs[key] == pytest.approx(value, rel=1e-5), key


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_distiller_mixed_labels_with_sample_weight(shape):
    weight = np.linspace(0.0, 2.0, len(X))
    before, targets = dense(linear(seed=2), X), dense(linear(seed=1), X)
    _, logs = fit(
        0.5,
        X,
        MIXED,
        sample_weight=weight.reshape(shape),
        compile_with={"weighted_metrics": ["accuracy"]},
    )
    hard = (nll(Y, before) * HAS_LABEL * weight).mean()
    soft = (kl(targets, before, 4.0) * weight).mean()
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-5)
    right = (np.argmax(before, -1) == Y) * HAS_LABEL * weight
    expected = right.sum() / (HAS_LABEL * weight).sum()
    assert logs["accuracy"] == pytest.approx(expected, rel=1e-5)


def test_distiller_mixed_labels_equal_sample_weights_in_the_label_loss():
    """At alpha 0, -1 is the same as a weight of zero."""
    student, _ = fit(0.0, X, MIXED)
    reference = linear(seed=2)
    reference.compile(
        keras.optimizers.SGD(0.5), cross_entropy(), run_eagerly=True
    )
    reference.fit(X, Y, sample_weight=HAS_LABEL.astype("float32"), **ONCE)
    assert_same_weights(student, reference)


def test_distiller_labels_all_missing_leave_the_teacher_alone():
    student, logs = fit(
        0.25, X, np.full(len(X), -1), compile_with={"metrics": ["accuracy"]}
    )
    assert logs["student_loss"] == 0.0
    assert logs["accuracy"] == 0.0
    assert logs["loss"] == pytest.approx(0.25 * logs["soft_targets"])
    reference = linear(seed=2)
    distiller = kd.Distiller(linear(seed=1), reference, 4.0, 1.0)
    distiller.compile(keras.optimizers.SGD(0.25 * 0.5), run_eagerly=True)
    distiller.fit(X, **ONCE)
    assert_same_weights(student, reference, 1e-6)


def test_distiller_mixed_labels_of_a_sequence():
    def tagger(seed):
        return keras.Sequential(
            [
                keras.Input((5, 4)),
                layers.Dense(
                    3,
                    kernel_initializer=keras.initializers.RandomNormal(
                        0.0, 1.0, seed=seed
                    ),
                ),
            ]
        )

    x = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")
    y = np.random.default_rng(1).integers(0, 3, (6, 5))
    known = np.random.default_rng(2).uniform(size=(6, 5)) < 0.6
    teacher, student = tagger(1), tagger(2)
    before, targets = (m.predict(x, verbose=0) for m in (student, teacher))
    _, logs = fit(
        0.5,
        x,
        np.where(known, y, -1),
        teacher=teacher,
        student=student,
        batch_size=6,
        compile_with={"metrics": ["accuracy"]},
    )
    hard = (nll(y, before) * known).mean()
    soft = kl(targets, before, 4.0).mean()
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-5)
    right = (np.argmax(before, -1) == y)[known]
    assert logs["accuracy"] == pytest.approx(right.mean())


def test_distiller_respects_the_ignore_class_of_a_loss():
    loss = cross_entropy(ignore_class=2)
    student, _ = fit(0.0, X, Y, compile_with={"loss": loss})
    reference = linear(seed=2)
    reference.compile(keras.optimizers.SGD(0.5), loss, run_eagerly=True)
    reference.fit(X, Y, **ONCE)
    assert_same_weights(student, reference)


def test_distiller_evaluate_passes_over_missing_labels():
    student, _ = fit(0.5, X, MIXED)
    distiller = kd.Distiller(linear(seed=1), student)
    distiller.compile(
        "sgd", cross_entropy(), metrics=["accuracy"], run_eagerly=True
    )
    seen = distiller.evaluate(
        X, MIXED, batch_size=24, verbose=0, return_dict=True
    )
    logits = dense(student, X)
    right = (np.argmax(logits, -1) == Y)[HAS_LABEL]
    assert seen["accuracy"] == pytest.approx(right.mean())
    hard = (nll(Y, logits) * HAS_LABEL).mean()
    assert seen["loss"] == pytest.approx(hard, rel=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "float32"])
def test_distiller_takes_class_ids_of_any_dtype(dtype):
    """Unsigned ids, as in MNIST, know no -1."""
    student, _ = fit(0.5, X, Y.astype(dtype))
    reference, _ = fit(0.5, X, Y)
    assert_same_weights(student, reference)


@pytest.mark.parametrize("wrong", [3, -2, 0.5])
def test_an_impossible_class_id_never_counts_as_another_class(wrong):
    """Neither where a guard tells of it nor, as NaN, where none does."""
    loss, scores = cross_entropy(), np.eye(3, dtype="float32")
    alone = GuardedLoss(loss)
    y = np.array([wrong, 1, 2])
    assert np.isnan(alone(y, scores))
    labelled = float(alone(np.array([0, -1, -1]), scores))
    assert 3 * labelled == pytest.approx(nll(Y[:1] * 0, scores[:1])[0])
    guard = StepChecks()
    assert np.isfinite(GuardedLoss(loss, guard)(y, scores))
    with pytest.raises(ValueError, match="1 label.* whole class ids from 0"):
        guard.raise_if_tripped(steps=1)


def test_an_impossible_yes_or_no_is_nan_without_a_guard():
    loss = GuardedLoss(keras.losses.BinaryCrossentropy())
    half = np.full((2, 1), 0.5, "float32")
    assert np.isnan(loss(np.array([[2.0], [1.0]]), half))
    assert float(loss(np.array([[1.0], [-1.0]]), half)) == pytest.approx(
        np.log(2) / 2
    )
