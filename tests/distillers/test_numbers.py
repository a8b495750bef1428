# SPDX-License-Identifier: Apache-2.0
"""What a training step computes, against NumPy in float64."""

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
from distillers.tiny import mlp
from distillers.tiny import nll
from distillers.tiny import softmax
from selection import quick

X, Y = features(), labels()
RATE = 0.5
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}


def fit_once(distiller, *data, loss=True, **fit_with):
    loss = cross_entropy() if loss is True else loss
    distiller.compile(keras.optimizers.SGD(RATE), loss=loss, run_eagerly=True)
    history = distiller.fit(*data, **{**ONCE, **fit_with}).history
    return {key: values[0] for key, values in history.items()}


@pytest.mark.parametrize(
    ("alpha", "temperature"),
    quick(
        3,
        [(0.0, 5.0), (0.3, 5.0), (1.0, 1.0)]
        + [(0.0, 1.0), (0.3, 1.0), (1.0, 5.0)],
    ),
)
def test_distiller_step_equals_a_step_by_hand(alpha, temperature):
    teacher, student = linear(seed=1), linear(seed=2)
    before = dense(student, X)
    targets = dense(teacher, X)
    kernel, bias = student.get_weights()
    distiller = kd.Distiller(teacher, student, temperature, alpha)

    logs = fit_once(distiller, X, Y)

    soft = kl(targets, before, temperature).mean()
    hard = nll(Y, before).mean()
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-5)
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    # alpha weighs the distillation; keras.distillation counts the other way.
    total = alpha * soft + (1.0 - alpha) * hard
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    same = np.argmax(before, -1) == np.argmax(targets, -1)
    assert 0.0 < same.mean() < 1.0
    assert logs["teacher_agreement"] == pytest.approx(same.mean())

    p, q = softmax(targets / temperature), softmax(before / temperature)
    pull = alpha * temperature * (q - p)
    push = (1.0 - alpha) * (softmax(before) - np.eye(3)[Y])
    gradient = (pull + push) / len(X)
    np.testing.assert_allclose(
        student.get_weights()[0], kernel - RATE * X.T @ gradient, atol=1e-5
    )
    np.testing.assert_allclose(
        student.get_weights()[1], bias - RATE * gradient.sum(0), atol=1e-5
    )


def test_distiller_gradient_keeps_its_scale_when_temperature_changes():
    def change(temperature):
        student = linear(seed=2)
        before = student.get_weights()[0]
        distiller = kd.Distiller(linear(seed=1), student, temperature, 1.0)
        fit_once(distiller, X, loss=None)
        return np.linalg.norm(student.get_weights()[0] - before)

    assert change(10.0) == pytest.approx(change(20.0), rel=0.1)


def test_distiller_logs_means_over_examples_not_batches():
    teacher, student = linear(seed=1), linear(seed=2)
    soft = kl(dense(teacher, X), dense(student, X), 4.0)
    hard = nll(Y, dense(student, X))
    distiller = kd.Distiller(teacher, student, 4.0, 0.25)
    distiller.compile(
        keras.optimizers.SGD(0.0), cross_entropy(), run_eagerly=True
    )
    logs = distiller.fit(X, Y, batch_size=10, verbose=0).history
    assert logs["soft_targets"][0] == pytest.approx(soft.mean(), rel=1e-5)
    assert logs["student_loss"][0] == pytest.approx(hard.mean(), rel=1e-5)
    total = 0.25 * soft.mean() + 0.75 * hard.mean()
    assert logs["loss"][0] == pytest.approx(total, rel=1e-5)


def test_distiller_weighs_examples_in_every_term():
    weight = np.linspace(0.0, 2.0, len(X))
    teacher, student = linear(seed=1), linear(seed=2)
    soft = (kl(dense(teacher, X), dense(student, X), 4.0) * weight).mean()
    hard = (nll(Y, dense(student, X)) * weight).mean()
    logs = fit_once(
        kd.Distiller(teacher, student, 4.0, 0.5), X, Y, sample_weight=weight
    )
    assert logs["soft_targets"] == pytest.approx(soft, rel=1e-5)
    assert logs["student_loss"] == pytest.approx(hard, rel=1e-5)
    assert logs["loss"] == pytest.approx(0.5 * (soft + hard), rel=1e-5)


def test_distiller_class_weight_equals_its_sample_weight():
    by_class = {0: 0.0, 1: 2.0, 2: 0.5}
    logs, students = [], []
    for weight in (
        {"class_weight": by_class},
        {"sample_weight": np.array([by_class[y] for y in Y])},
        {},
    ):
        students.append(linear(seed=2))
        distiller = kd.Distiller(linear(seed=1), students[-1], 4.0, 0.5)
        logs.append(fit_once(distiller, X, Y, **weight))
    assert logs[0] == logs[1] != logs[2]
    assert_same_weights(students[0], students[1])


def test_distiller_zero_sample_weights_train_nothing():
    student = linear(seed=2)
    before = student.get_weights()
    distiller = kd.Distiller(linear(seed=1), student, alpha=0.5)
    logs = fit_once(distiller, X, Y, sample_weight=np.zeros(len(X)))
    assert logs["loss"] == logs["soft_targets"] == 0.0
    assert_same_weights(student, before)


def test_distiller_sums_losses_by_their_weights():
    teacher, student = linear(seed=1), linear(seed=2)
    targets, before = dense(teacher, X), dense(student, X)
    distiller = kd.Distiller(
        teacher,
        student,
        alpha=0.6,
        distillation_losses=[
            kd.losses.SoftTargets(2.0, weight=0.7),
            kd.losses.SoftTargets(5.0, weight=0.2),
            kd.losses.FeatureMatching("scores", "scores", weight=3.0),
        ],
    )
    logs = fit_once(distiller, X, Y)
    first = kl(targets, before, 2.0).mean()
    second = kl(targets, before, 5.0).mean()
    third = np.square(targets - before).mean()
    # Logged unweighted, under names that do not collide.
    assert logs["soft_targets"] == pytest.approx(first, rel=1e-5)
    assert logs["soft_targets_2"] == pytest.approx(second, rel=1e-5)
    assert logs["feature_matching"] == pytest.approx(third, rel=1e-5)
    total = 0.6 * (0.7 * first + 0.2 * second + 3.0 * third)
    total += 0.4 * nll(Y, before).mean()
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


def test_distiller_result_does_not_depend_on_the_order_of_losses():
    def make():
        return [
            kd.losses.FeatureMatching("hidden", "hidden", projector=None),
            kd.losses.SoftTargets(3.0),
        ]

    students = []
    for losses in (make(), make()[::-1]):
        students.append(mlp(seed=2))
        fit_once(
            kd.Distiller(mlp(seed=1), students[-1], distillation_losses=losses),
            X,
            Y,
        )
    assert_same_weights(*students, tolerance=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_distiller_keeps_regularisation_at_full_weight(alpha):
    def build():
        l2 = keras.regularizers.L2(0.1)
        return keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(3, kernel_regularizer=l2, activity_regularizer=l2),
            ]
        )

    student, teacher = build(), linear(seed=1)
    before, kernel = dense(student, X), student.get_weights()[0]
    penalty = 0.1 * np.square(kernel).sum()
    penalty += 0.1 * np.square(before).sum() / len(X)
    soft = kl(dense(teacher, X), before, 4.0).mean()
    hard = nll(Y, before).mean()

    logs = fit_once(kd.Distiller(teacher, student, 4.0, alpha), X, Y)

    total = alpha * soft + (1.0 - alpha) * hard + penalty
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    # As in student.fit, the student's loss is what its fit would minimise.
    assert logs["student_loss"] == pytest.approx(hard + penalty, rel=1e-5)


def scores(table):
    """A model without weights that looks its logits up by the input."""
    inputs = keras.Input((1,), dtype="int32")
    table = np.asarray(table, "float32")
    embedding = layers.Embedding(
        *table.shape, embeddings_initializer="zeros", dtype="float32"
    )
    model = keras.Model(inputs, layers.Flatten()(embedding(inputs)))
    embedding.set_weights([table])
    return model


def test_distiller_loss_is_not_clipped_where_student_is_most_wrong():
    teacher, student = scores([[200.0, 0.0]]), scores([[0.0, 200.0]])
    logs = fit_once(
        kd.Distiller(teacher, student, 1.0, 1.0),
        np.zeros((1, 1), "int32"),
        loss=None,
    )
    assert logs["loss"] == pytest.approx(200.0)
    # And its gradient has not vanished.
    np.testing.assert_allclose(
        student.get_weights()[0], [[RATE, 200.0 - RATE]], rtol=1e-5
    )


def test_distiller_stays_finite_for_huge_logits():
    rows = [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]
    student = scores(np.flip(rows, -1))
    logs = fit_once(
        kd.Distiller(scores(rows), student, 2.0, 0.5),
        np.array([[0], [1]]),
        np.array([0, 1]),
    )
    expected = kl(rows, np.flip(rows, -1), 2.0).mean()
    assert logs["soft_targets"] == pytest.approx(expected, rel=1e-5)
    assert all(np.isfinite(w).all() for w in student.get_weights())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_distiller_computes_losses_in_float32(policy):
    """Half precision would see a small gap wrong in its first digits."""
    rows = np.array([[1.0, 2.0, 3.0]], "float32")
    student = scores(rows)
    inputs = keras.Input((1,), dtype="int32")
    half = layers.Activation("linear", dtype=policy)(student(inputs))
    half = keras.Model(inputs, half)
    assert half.compute_dtype == "float32"
    assert half.output.dtype == policy.removeprefix("mixed_")
    shift = np.array([[0.0, 0.0, 0.03]])
    logs = fit_once(
        kd.Distiller(scores(rows + shift), half, 1.0, 1.0),
        np.zeros((1, 1), "int32"),
        loss=None,
    )
    expected = kl(rows + shift, rows, 1.0).mean()
    assert logs["loss"] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    "teacher_policy, student_policy",
    [("float32", "mixed_float16"), ("mixed_float16", "float32")],
)
def test_distiller_accepts_two_dtype_policies(teacher_policy, student_policy):
    def build(seed, policy):
        model = mlp(seed=seed)
        config = model.get_config()
        for layer in config["layers"][1:]:
            layer["config"]["dtype"] = policy
        half = keras.Sequential.from_config(config)
        half.set_weights(model.get_weights())
        return half

    teacher, student = build(1, teacher_policy), build(2, student_policy)
    expected = kl(
        mlp(seed=1).predict(X, verbose=0),
        mlp(seed=2).predict(X, verbose=0),
        4.0,
    ).mean()
    logs = fit_once(kd.Distiller(teacher, student, 4.0), X, Y)
    assert logs["soft_targets"] == pytest.approx(expected, rel=2e-2)


def test_distiller_metrics_read_the_student():
    student = linear(seed=2)
    expected = (np.argmax(dense(student, X), -1) == Y).mean()
    distiller = kd.Distiller(linear(seed=1), student)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        cross_entropy(),
        metrics=["accuracy"],
        run_eagerly=True,
    )
    history = distiller.fit(X, Y, validation_data=(X, Y), **ONCE).history
    assert history["accuracy"][0] == pytest.approx(expected)
    assert history["val_accuracy"][0] == pytest.approx(expected)
    assert not {"val_soft_targets", "val_student_loss"} & set(history)


def test_distiller_val_loss_does_not_depend_on_temperature_and_alpha():
    losses = set()
    for temperature, alpha in ((1.0, 0.1), (4.0, 0.1), (4.0, 0.9)):
        distiller = kd.Distiller(
            linear(seed=1), linear(seed=2), temperature, alpha
        )
        distiller.compile("sgd", cross_entropy(), run_eagerly=True)
        losses.add(distiller.evaluate(X, Y, verbose=0))
    assert len(losses) == 1
    assert losses.pop() == pytest.approx(
        nll(Y, dense(linear(seed=2), X)).mean(), rel=1e-5
    )


def test_distiller_equals_keras_distillation_where_that_is_right():
    students = [linear(seed=2), linear(seed=2)]
    for student, loss in zip(
        students,
        (
            kd.losses.SoftTargets(3.0),
            keras.distillation.LogitsDistillation(
                temperature=3.0, loss=keras.losses.KLDivergence()
            ),
        ),
        strict=True,
    ):
        distiller = kd.Distiller(
            linear(seed=1), student, distillation_losses=loss
        )
        fit_once(distiller, X, Y)
    assert_same_weights(*students, tolerance=1e-5)


def test_distiller_loss_of_a_user_is_used():
    @keras.saving.register_keras_serializable(package="tests")
    class Distance(kd.losses.DistillationLoss):
        def call(self, y_true, y_pred):
            return ops.mean(ops.abs(y_true - y_pred), axis=-1)

    teacher, student = linear(seed=1), linear(seed=2)
    expected = np.abs(dense(teacher, X) - dense(student, X)).mean()
    logs = fit_once(
        kd.Distiller(
            teacher, student, alpha=1.0, distillation_losses=Distance()
        ),
        X,
        loss=None,
    )
    assert logs["distance"] == pytest.approx(expected, rel=1e-5)
