# SPDX-License-Identifier: Apache-2.0
"""train(): a student and its control differ in the teacher alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.labels.attached import outputs_of
from keras_kd.training import train

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
