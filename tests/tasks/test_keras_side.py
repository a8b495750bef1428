# SPDX-License-Identifier: Apache-2.0
"""Losses and Keras metrics of tasks fit the student's output."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_kd import tasks
from tasks.task_cases import CASES
from tasks.task_cases import TAGS


def ends_in(activation, units, shape=(2,)):
    x = keras.Input(shape)
    return keras.Model(x, keras.layers.Dense(units, activation)(x))


def heads():
    x = keras.Input((2,))
    kind = keras.layers.Dense(3, name="kind")(x)
    size = keras.layers.Dense(1, name="size")(x)
    return keras.Model(x, {"kind": kind, "size": size})


@pytest.mark.parametrize(
    ("task", "activation", "units", "loss"),
    [
        (tasks.Classification(), "softmax", 3, "SparseCategoricalCrossentropy"),
        (tasks.Classification(), None, 3, "SparseCategoricalCrossentropy"),
        (
            tasks.Classification(one_hot=True),
            None,
            3,
            "CategoricalCrossentropy",
        ),
        (tasks.Classification(), None, 1, "BinaryCrossentropy"),
        (tasks.MultiLabel(), "sigmoid", 3, "BinaryCrossentropy"),
        (tasks.Segmentation(), None, 3, "SparseCategoricalCrossentropy"),
        (tasks.Segmentation(one_hot=True), None, 3, "CategoricalCrossentropy"),
        (tasks.Tagging(TAGS), "softmax", 5, "SparseCategoricalCrossentropy"),
        (tasks.LanguageModel(), None, 9, "SparseCategoricalCrossentropy"),
        (tasks.Recommendation(), None, 9, "SparseCategoricalCrossentropy"),
        (tasks.Regression(), None, 3, "MeanSquaredError"),
        (tasks.Transcription("_ab"), None, 3, "CTC"),
    ],
)
def test_label_loss_fits_the_output(task, activation, units, loss):
    found = task.label_loss(ends_in(activation, units))
    assert type(found).__name__ == loss
    if hasattr(found, "from_logits"):
        assert found.from_logits == (activation is None)


@pytest.mark.parametrize("name", ["Segmentation", "LanguageModel"])
def test_label_loss_ignores_what_the_task_ignores(name):
    task = getattr(tasks, name)(ignore_class=2)
    assert task.label_loss(ends_in(None, 4)).ignore_class == 2


@pytest.mark.parametrize(
    ("name", "units", "figure"),
    [
        ("classification", 3, "accuracy"),
        ("multi-label", 4, "unit_accuracy"),
        ("regression", 3, "mean_absolute_error"),
        ("segmentation", 3, "mean_iou"),
        ("tagging", 5, "token_accuracy"),
        ("language model", 9, "perplexity"),
    ],
)
def test_keras_metric_is_the_figure_of_its_name(name, units, figure):
    case = CASES[name]
    (metric, *_) = case.task.metrics(ends_in(None, units))
    assert metric.name == figure
    outputs, labels = np.asarray(case.outputs), np.asarray(case.labels)
    if isinstance(case.outputs, dict):
        outputs = case.outputs["logits"]
    # Keras knows no -1; the distiller keeps it away from its metrics.
    if name != "multi-label":
        labels = np.maximum(labels, 0) if labels.dtype.kind == "i" else labels
    metric.update_state(labels[:5], outputs[:5])
    metric.update_state(labels[5:], outputs[5:])
    meter = case.task.meter()
    named = {"logits": outputs} if outputs.ndim else case.outputs
    meter.update(named, labels)
    assert float(metric.result()) == pytest.approx(
        meter.result()[figure], rel=1e-5
    )
    again = type(metric).from_config(metric.get_config())
    assert again.name == figure


def test_keras_metric_of_one_unit_has_the_threshold_of_its_form():
    for activation, threshold in ((None, 0.0), ("sigmoid", 0.5)):
        (metric,) = tasks.Classification().metrics(ends_in(activation, 1))
        assert (metric.name, metric.threshold) == ("accuracy", threshold)


def test_composite_asks_each_task_about_its_output():
    task = tasks.get(
        {"kind": tasks.Classification(), "size": tasks.Regression(unit="m")},
        headline="size",
    )
    student = heads()
    assert task.label_loss(student)["kind"].from_logits
    assert task.metrics(student)["size"][0].name == "mean_absolute_error"
    assert task.headline == tasks.Headline(
        "size_mean_absolute_error", "min", "m"
    )
    assert [
        (loss.teacher, loss.student, loss.name)
        for loss in task.distillation_losses()
    ] == [
        ("kind", "kind", "kind_soft_targets"),
        ("size", "size", "size_regression"),
    ]


def test_composite_names_train():
    """Keras logs figures under the names that the meter gives them."""
    task = tasks.get(
        {"kind": tasks.Classification(), "size": tasks.Regression()},
        headline="kind",
    )
    student = heads()
    student.compile(
        "sgd", task.label_loss(student), metrics=task.metrics(student)
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 2))
    y = {"kind": np.arange(8) % 3, "size": rng.normal(size=(8, 1))}
    logs = student.evaluate(x, y, return_dict=True, verbose=0)
    meter = task.meter(outputs={"kind": "logits"})
    meter.update(student.predict(x, verbose=0), y)
    found = meter.result()
    for name in ("kind_accuracy", "size_mean_absolute_error"):
        assert logs[name] == pytest.approx(found[name], rel=1e-5)


def test_headline_is_told_in_its_unit_and_better_is_positive():
    accuracy = tasks.Headline("accuracy")
    error = tasks.Headline("mean_absolute_error", "min", "km")
    assert accuracy.better(0.93, than=0.91) == pytest.approx(2.0)
    assert error.better(20.0, than=25.0) == 5.0
    assert accuracy.text(0.931) == "93.10 %"
    assert error.text(20.34) == "20.34 km"
    assert accuracy.difference_text(2.0, 0.91) == "+2.00 points"
    assert error.difference_text(-5.0, 25.0) == "-5 km (-20.0 % of control)"
