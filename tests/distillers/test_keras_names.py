# SPDX-License-Identifier: Apache-2.0
"""What a user of keras.distillation writes, and what answers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp

X, Y = features(8), labels(8)
DEFAULT = keras.distillation.LogitsDistillation(
    loss=keras.losses.KLDivergence()
)


@pytest.mark.parametrize(
    ("arguments", "keywords", "line"),
    [
        (([DEFAULT],), {}, r"distillation_losses=\.\.\."),
        ((kd.losses.SoftTargets(),), {}, r"distillation_losses=\.\.\."),
        ((), {"student_loss_weight": 0.3}, r"Write alpha=0\.7\."),
        ((), {"distillation_loss_weights": [2.0]}, r"weight=\.\.\.\)"),
    ],
    ids=[
        "third",
        "third_of_ours",
        "student_loss_weight",
        "distillation_loss_weights",
    ],
)
def test_arguments_of_keras_are_answered_by_the_line(arguments, keywords, line):
    with pytest.raises(ValueError, match=line):
        kd.Distiller(linear(1), linear(2), *arguments, **keywords)


@pytest.mark.parametrize(
    ("monitor", "ours"),
    [
        ("val_total_loss", "'val_loss'"),
        ("val_distillation_loss", "'val_loss'"),
        ("total_loss", "'loss'"),
        ("distillation_loss", "such as 'soft_targets'"),
    ],
)
def test_monitors_of_keras_are_answered_by_ours(monitor, ours):
    distiller = kd.Distiller(linear(1), linear(2))
    distiller.compile("sgd", cross_entropy())
    stop = keras.callbacks.EarlyStopping(monitor)
    message = f"EarlyStopping monitors '{monitor}'.*{ours}"
    with pytest.raises(ValueError, match=message):
        distiller.fit(X, Y, callbacks=stop)
    with pytest.raises(ValueError, match=message):
        distiller.fit(X, Y, 8, 1, 0, [stop])


@pytest.fixture
def default():
    """Keras' default, `loss="kl_divergence"`."""
    with pytest.warns(UserWarning, match="to raw outputs"):
        yield kd.losses.get(keras.distillation.LogitsDistillation(2.0))


def test_keras_default_distils_softmax_models_as_keras_does(default):
    teacher, student = (linear(i, activation="softmax") for i in (1, 2))
    distiller = kd.Distiller(
        teacher, student, alpha=1.0, distillation_losses=default
    )
    distiller.compile(keras.optimizers.SGD(1.0), None, run_eagerly=True)
    expected = keras.losses.KLDivergence()(teacher(X) / 2, student(X) / 2)
    before = student.get_weights()
    logs = distiller.fit(X, batch_size=8, verbose=0).history
    assert logs["loss"] == pytest.approx([float(expected)], rel=1e-4)
    moved = np.abs(before[0] - student.get_weights()[0]).max()
    assert moved > 0.05


@pytest.mark.parametrize("attached", [False, True])
def test_keras_default_between_logits_and_probabilities_is_refused(
    default, attached
):
    teacher, student = linear(1), linear(2, activation="softmax")
    distiller = kd.Distiller(
        None if attached else [teacher, linear(3)],
        student,
        alpha=1.0,
        distillation_losses=default,
    )
    distiller.compile("sgd", None)
    x = kd.attach_targets(X, {"output": np.array(teacher(X))})
    with pytest.raises(ValueError, match="in 'linear', a student.*'softmax'"):
        distiller.fit(x if attached else X, batch_size=8, verbose=0)


def distil(student, teacher=None, **kwargs):
    distiller = kd.Distiller(
        teacher or mlp(seed=1), student, alpha=0.6, **kwargs
    )
    return distiller.compile(
        keras.optimizers.SGD(0.5), cross_entropy(), run_eagerly=True
    )


def test_compute_loss_in_a_custom_loop_distils_as_fit_does():
    hints = kd.losses.FeatureMatching("hidden", "hidden", projector=None)
    losses = [kd.losses.SoftTargets(3.0), hints]
    looped, fitted = (
        distil(mlp(seed=2), distillation_losses=losses) for _ in range(2)
    )
    with tf.GradientTape() as tape:
        loss = looped.compute_loss(X, Y)
    weights = looped.trainable_weights
    looped.optimizer.apply(tape.gradient(loss, weights), weights)
    logs = fitted.fit(X, Y, batch_size=8, verbose=0).history
    assert float(loss) == pytest.approx(logs["loss"][0], rel=1e-5)
    for a, b in zip(looped.get_weights(), fitted.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_compute_loss_of_a_prediction_alone_is_refused():
    distiller = distil(linear(2))
    answers = distiller(X)
    with pytest.raises(ValueError, match=r"Write distiller\.compute_loss\(x, "):
        distiller.compute_loss(X, Y, answers)
    expected = cross_entropy()(Y, answers)
    for given in (answers, None):
        loss = distiller.compute_loss(X, Y, given, training=False)
        assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    with pytest.raises(ValueError, match=r"1 label\(s\).*out of range"):
        distiller.compute_loss(X, np.where(np.arange(8), Y, 7))


def test_compute_loss_of_mutual_students_is_refused():
    mutual = kd.MutualDistiller([linear(1), linear(2)])
    mutual.compile("sgd", cross_entropy())
    with pytest.raises(ValueError, match="one loss for each student"):
        mutual.compute_loss(X, Y)
