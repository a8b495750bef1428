# SPDX-License-Identifier: Apache-2.0
"""train(): a student and its control differ in the teacher alone."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.targets.attached import outputs_of
from keras_kd.training.step_input import first_rows
from keras_kd.training.step_tuning import StepSettings
from keras_kd.training.trainer import train
from keras_kd.training.training_step import measure_step

LEARN = {"title": "test", "epochs": 3, "batch_size": 16, "learning_rate": 0.01}


def build():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(3),
        ]
    )


def make_data(labelled=None, dataset=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype("float32")
    y = x[:, :3].argmax(axis=1)
    y_train = y[:60].copy()
    if labelled is not None:
        y_train[labelled:] = -1
    train_split = (x[:60], y_train)
    if dataset:
        train_split = tf.data.Dataset.from_tensor_slices(train_split).batch(16)
    return kd.Data(train=train_split, validation=(x[60:80], y[60:80]))


def test_same_seed_gives_the_same_student():
    first, _ = train(build, make_data(), seed=3, **LEARN)
    second, _ = train(build, make_data(), seed=3, **LEARN)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_control_and_student_take_the_same_steps():
    teacher = build()
    data = make_data(labelled=10)
    _, control = train(build, data, **LEARN)
    _, student = train(build, data, teacher=teacher, **LEARN)
    assert control["steps"] == student["steps"] == 3 * 4


def test_stored_targets_teach_as_the_live_teacher_does():
    teacher = kd.teachers.FrozenTeacher(build())
    data = make_data()
    live, _ = train(build, data, teacher=teacher, **LEARN)
    targets = outputs_of(teacher, data.train, verbose=False)
    stored, _ = train(build, data, targets=targets, **LEARN)
    for a, b in zip(live.get_weights(), stored.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("dataset", [False, True])
def test_control_sees_the_labelled_examples_only(dataset):
    # The one labelled class is learned; nothing else can be.
    x, y = make_data().train
    y = np.where(y == 1, 1, -1)
    only = (x, y)
    if dataset:
        only = tf.data.Dataset.from_tensor_slices(only).batch(16)
    data = kd.Data(train=only, validation=(x, np.ones(60, "int32")))
    model, facts = train(build, data, **{**LEARN, "epochs": 20})
    assert facts["steps"] == 20 * 4
    assert (model.predict(x, verbose=0).argmax(-1) == 1).mean() > 0.9


def test_best_epoch_on_validation_is_kept():
    data = make_data()
    model, facts = train(build, data, **{**LEARN, "learning_rate": 0.3})
    x, y = data.validation
    accuracy = (model.predict(x, verbose=0).argmax(-1) == y).mean()
    assert accuracy == pytest.approx(facts["val_accuracy"])


def test_losses_are_copied_for_every_training():
    loss = kd.losses.SoftTargets(2.0)
    train(
        build, make_data(), teacher=build(), distillation_losses=loss, **LEARN
    )
    model, _ = train(
        build, make_data(), teacher=build(), distillation_losses=[loss], **LEARN
    )
    assert loss.temperature == 2.0
    assert model.count_params() == build().count_params()


def test_control_without_any_label_is_refused():
    with pytest.raises(ValueError, match="control=False"):
        train(build, make_data(labelled=0), **LEARN)


@pytest.mark.parametrize("kind", ["arrays", "dataset", "labels", "control"])
def test_measuring_the_step_changes_no_bit(kind, monkeypatch, tmp_path, capsys):
    """Weights and history, with the steps of an execution forced to 16."""
    chosen = []

    def sixteen(*args, **kwargs):
        found = kd.fastest_step(*args, **kwargs)
        chosen.append(
            dataclasses.replace(found, steps_per_execution=16, repaid_after=0)
        )
        return chosen[-1]

    monkeypatch.setattr("keras_kd.training.training_step.fastest_step", sixteen)
    monkeypatch.setattr("keras_kd.training.trainer.MEASURED_FROM", 12)
    data, options = make_data(), {"teacher": build()}
    if kind == "labels":
        cache = kd.TeacherCache(tmp_path / "labels")
        cache.build(build(), data.train, verbose=False)
        options = {"labels": cache}
    if kind == "control":
        options = {}

    def trained(step):
        split = data
        if kind == "dataset":
            # One that knows which of its passes it is in.
            train_split = tf.data.Dataset.from_tensor_slices(data.train)
            train_split = train_split.shuffle(60, seed=1).batch(16)
            split = kd.Data(train=train_split, validation=data.validation)
        model, facts = train(build, split, step=step, **options, **LEARN)
        return [*model.get_weights(), *map(np.array, facts["history"].values())]

    expected = trained(None)
    assert not chosen
    for a, b in zip(expected, trained("measured"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(chosen) == 1
    assert "test: step: steps_per_execution=16" in capsys.readouterr().out


def test_short_training_is_not_measured(capsys):
    train(build, make_data(), **LEARN)
    assert "step:" not in capsys.readouterr().out


def test_compilation_must_be_repaid_by_the_training(monkeypatch):
    found = StepSettings(False, 16, {}, 0.1, repaid_after=13)
    monkeypatch.setattr(
        "keras_kd.training.training_step.fastest_step", lambda *_, **__: found
    )
    model = build()
    model.compile("adam", "mse")
    assert measure_step(model, None, 16, steps=12) is None
    assert model.steps_per_execution == 1
    assert measure_step(model, None, 16, steps=13) == str(found)
    assert model.steps_per_execution == 16


@pytest.mark.parametrize("batch_size", [15, 16])
def test_step_that_was_measured_is_not_traced_again(batch_size, tmp_path):
    """Whether or not the last batch is a smaller one."""
    data, traces = make_data(), []

    class Counted(kd.Distiller):
        def train_step(self, data):
            traces.append(self.steps_per_execution)
            return super().train_step(data)

    cache = kd.TeacherCache(tmp_path / "labels")
    cache.build(build(), data.train, verbose=False)
    distiller = Counted(None, build())
    distiller.compile("adam", "sparse_categorical_crossentropy")
    few = cache.attach(first_rows(data.train, batch_size), batch_size)
    assert measure_step(distiller, few, batch_size, steps=10**9)
    before = len(traces)
    train = cache.attach(data.train, batch_size)
    distiller.fit(train, shuffle=False, verbose=0)
    assert len(traces) == before > 0


def test_step_is_measured_or_none():
    with pytest.raises(ValueError, match="Received: step='fast'"):
        train(build, make_data(), step="fast", **LEARN)
