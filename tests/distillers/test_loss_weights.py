# SPDX-License-Identifier: Apache-2.0
"""Loss scales: what the first batches would log, and weights that level it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

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
from keras_kd.targets.attached import attach_targets

X, Y = features(), labels()
ROWS = {"batch_size": 9}
FIT = {**ROWS, "shuffle": False, "verbose": 0}


def losses():
    return [
        kd.losses.SoftTargets(4.0, weight=2.0),
        kd.losses.FeatureMatching("hidden", "hidden"),
    ]


def distiller_of(student=None, loss=True, alpha=0.25, **kwargs):
    kwargs.setdefault("distillation_losses", losses())
    kwargs.setdefault("teacher", mlp(width=12, seed=1))
    distiller = kd.Distiller(
        student=student or mlp(seed=2), alpha=alpha, **kwargs
    )
    return distiller.compile(
        keras.optimizers.SGD(0.0),
        cross_entropy() if loss is True else loss,
        run_eagerly=True,
    )


def regularised():
    """A student with all that a step in training changes."""
    return mlp(
        layers.BatchNormalization(),
        layers.Dropout(0.5, seed=3),
        layers.ActivityRegularization(l2=0.1),
        seed=2,
    )


@pytest.mark.parametrize("student", [mlp, regularised])
def test_values_are_what_the_first_batches_log(student):
    distiller = distiller_of(student())
    scales = kd.suggest_weights(distiller, (X, Y), batches=9, **ROWS)
    logs = distiller.fit(X, Y, **FIT).history
    assert scales.student_loss == pytest.approx(logs["student_loss"][0])
    for name, value in scales.values.items():
        assert value == pytest.approx(logs[name][0], rel=1e-5)
    total = sum(scales.given[n] * v for n, v in scales.values.items())
    total = 0.25 * total + 0.75 * scales.student_loss
    # Beside the alpha: regularisation counts in full.
    extra = logs["loss"][0] - total
    assert extra == pytest.approx(0.0, abs=1e-5) or student is regularised


def test_values_equal_the_formula():
    teacher, student = linear(seed=1), linear(seed=2)
    distiller = distiller_of(
        student, teacher=teacher, distillation_losses=kd.losses.SoftTargets()
    )
    scales = kd.suggest_weights(distiller, (X, Y), batches=2, **ROWS)
    x, y = X[:18], Y[:18]
    soft = kl(dense(teacher, x), dense(student, x), 4.0).mean()
    hard = nll(y, dense(student, x)).mean()
    assert scales.values == {"soft_targets": pytest.approx(soft, rel=1e-5)}
    assert scales.student_loss == pytest.approx(hard, rel=1e-5)
    assert scales.weights["soft_targets"] == pytest.approx(hard / soft)


def test_measuring_changes_nothing():
    distiller = distiller_of(regularised())
    distiller.fit(X, Y, **FIT)
    before = [np.copy(v) for v in (*distiller.variables,)]
    metrics = [np.copy(v) for v in distiller.metrics_variables]
    steps = int(distiller.optimizer.iterations)
    kd.suggest_weights(distiller, (X, Y), **ROWS)
    assert_same_weights([np.copy(v) for v in distiller.variables], before)
    for variable, value in zip(
        distiller.metrics_variables, metrics, strict=True
    ):
        np.testing.assert_array_equal(variable, value)
    assert int(distiller.optimizer.iterations) == steps
    assert [loss.weight for loss in distiller.distillation_losses] == [2, 1]


def test_state_is_put_back_after_an_error():
    distiller = distiller_of(regularised())
    before = [np.copy(v) for v in distiller.variables]
    distiller.distillation_losses[1].call = None
    with pytest.raises(TypeError):
        kd.suggest_weights(distiller, (X, Y))
    assert_same_weights([np.copy(v) for v in distiller.variables], before)


def test_projectors_that_are_measured_are_those_that_train():
    student = keras.Sequential([layers.Dense(8), layers.Dense(3)])
    distiller = distiller_of(
        student,
        distillation_losses=kd.losses.FeatureMatching("hidden", "output"),
    )
    assert distiller.projectors == {}
    scales = kd.suggest_weights(distiller, (X, Y), batches=4, **ROWS)
    projector = distiller.projectors["feature_matching"]
    logs = distiller.fit(X, Y, **FIT).history
    assert distiller.projectors["feature_matching"] is projector
    expected = pytest.approx(logs["feature_matching"][0], rel=1e-5)
    assert scales.values["feature_matching"] == expected


def test_suggested_weights_bring_every_loss_to_the_label_loss():
    distiller = distiller_of()
    scales = kd.suggest_weights(distiller, (X, Y))
    for name, weight in scales.weights.items():
        weighted = weight * scales.values[name]
        assert weighted == pytest.approx(scales.student_loss)
    scales.apply()
    again = kd.suggest_weights(distiller, (X, Y))
    assert again.given == pytest.approx(again.weights) == scales.weights


def test_applied_weights_count_without_a_new_trace():
    traces = []

    class Traced(kd.Distiller):
        def train_step(self, data):
            traces.append(data)
            return super().train_step(data)

    distiller = Traced(mlp(seed=1), mlp(seed=2), alpha=0.5)
    distiller.compile(
        keras.optimizers.SGD(0.0), cross_entropy(), jit_compile=False
    )
    whole = {**FIT, "batch_size": len(X)}
    distiller.fit(X, Y, **whole)
    scales = kd.suggest_weights(distiller, (X, Y))
    scales.apply()
    logs = distiller.fit(X, Y, **whole).history
    assert logs["loss"][0] == pytest.approx(scales.student_loss, rel=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("how", ["no_labels", "no_loss"])
def test_first_loss_is_the_scale_where_labels_say_nothing(how):
    distiller = distiller_of(loss=None if how == "no_loss" else True, alpha=1)
    data = (X, Y) if how == "no_loss" else X
    scales = kd.suggest_weights(distiller, data)
    assert scales.student_loss is None
    assert scales.weights["soft_targets"] == pytest.approx(1.0)
    assert "the value of soft_targets." in str(scales)
    assert "student_loss" not in str(scales)


def test_loss_that_is_zero_keeps_its_weight():
    teacher, student = mlp(seed=2), mlp(seed=2)
    scales = kd.suggest_weights(
        distiller_of(
            student,
            teacher=teacher,
            distillation_losses=[
                kd.losses.FeatureMatching("hidden", "hidden", weight=3.0),
                kd.losses.HardTargets(),
            ],
        ),
        (X, Y),
    )
    assert scales.values["feature_matching"] == 0.0
    assert scales.weights["feature_matching"] == 3.0


@pytest.mark.parametrize("form", ["dataset", "data", "attached"])
def test_data_of_any_form_give_the_same_values(form):
    distiller = distiller_of(distillation_losses=kd.losses.SoftTargets())
    expected = kd.suggest_weights(distiller, (X, Y), batches=2, **ROWS)
    if form == "dataset":
        data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(9)
    elif form == "data":
        data = kd.Data((X, Y), (X[:3], Y[:3]))
    else:
        data = (attach_targets(X, {"output": distiller.teacher(X)}), Y)
        distiller.teacher = None
    scales = kd.suggest_weights(distiller, data, batches=2, **ROWS)
    assert scales.values == pytest.approx(expected.values)
    assert scales.student_loss == pytest.approx(expected.student_loss)


def test_table_shows_values_weights_and_factors():
    scales = kd.suggest_weights(distiller_of(), (X, Y))
    head, label, soft, hint, factor, meaning = str(scales).splitlines()
    assert head.split("  ")[0] == "loss"
    assert "weight x value  suggested weight" in head
    value = scales.student_loss
    assert label.split() == ["student_loss", f"{value:.4g}", "0.75"]
    value = scales.values["soft_targets"]
    suggested = scales.weights["soft_targets"]
    numbers = (value, 0.25, 2.0, 2.0 * value, suggested)
    assert soft.split() == ["soft_targets", *(f"{n:.4g}" for n in numbers)]
    assert hint.split()[0] == "feature_matching"
    assert "alpha = 0.25" in factor and "1 - alpha = 0.75" in factor
    assert meaning.endswith(f"{scales.scale:.4g}, the value of student_loss.")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd.suggest_weights(mlp(), (X, Y)), "takes a Distiller.*Seq"),
        (
            lambda: kd.suggest_weights(distiller_of(), (X, Y), batches=0),
            "at least 1 batch.*batches=0",
        ),
        (
            lambda: kd.suggest_weights(distiller_of(), (X[:0], Y[:0])),
            "`data` is empty",
        ),
        (
            lambda: kd.suggest_weights(distiller_of(), (X, Y + 1)),
            "label.s. of batch .* are out of range",
        ),
    ],
    ids=["model", "batches", "empty", "labels"],
)
def test_wrong_use_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
