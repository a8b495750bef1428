# SPDX-License-Identifier: Apache-2.0
"""train(): a student and its control differ in the teacher alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.distillers import steps_together as rule
from keras_kd.targets.attached import outputs_of
from keras_kd.training.trainer import train
from replicas import two_replicas
from selection import quick

LEARN = {"title": "test", "epochs": 3, "batch_size": 16, "learning_rate": 0.1}
# It is traced in a third of Adam's time.
LEARN["optimizer"] = "sgd"
ONCE = {**LEARN, "epochs": 1}


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


@pytest.mark.slow
def test_same_seed_gives_the_same_student():
    first, _ = train(build, make_data(), seed=3, **LEARN)
    second, _ = train(build, make_data(), seed=3, **LEARN)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_control_and_student_take_the_same_steps(eager):
    teacher = build()
    data = make_data(labelled=10)
    _, control = train(build, data, **ONCE)
    _, student = train(build, data, teacher=teacher, **ONCE)
    assert control["steps"] == student["steps"] == 4


@pytest.mark.parametrize("unlabelled", ["rows", "units"])
def test_control_does_not_learn_from_missing_yes_or_no_labels(
    eager, unlabelled
):
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = np.zeros((32, 3), "float32")
    y[16:] = -1.0
    if unlabelled == "units":
        y[16:, 0] = 0.0
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    learn = {**LEARN, "learning_rate": 1.0}
    _, facts = train(build, kd.Data((x, y), (x, y)), loss=loss, **learn)
    # Trained on -1 it falls without end, below 0.
    assert 0.0 < facts["history"]["loss"][-1]
    assert 0.0 < facts["history"]["val_loss"][-1]
    assert facts["steps"] == 3 * 2


def test_stored_targets_teach_as_the_live_teacher_does(eager):
    teacher = kd.teachers.FrozenTeacher(build())
    data = make_data()
    learn = {**LEARN, "epochs": 1}
    live, _ = train(build, data, teacher=teacher, **learn)
    targets = outputs_of(teacher, data.train, verbose=False)
    stored, _ = train(build, data, targets=targets, **learn)
    for a, b in zip(live.get_weights(), stored.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("dataset", quick(1, [False, True]))
def test_control_sees_the_labelled_examples_only(eager, dataset):
    # The one labelled class is learned; nothing else can be.
    x, y = make_data().train
    y = np.where(y == 1, 1, -1)
    only = (x, y)
    if dataset:
        only = tf.data.Dataset.from_tensor_slices(only).batch(16)
    data = kd.Data(train=only, validation=(x, np.ones(60, "int32")))
    learn = {**LEARN, "epochs": 5, "learning_rate": 1.0}
    model, facts = train(build, data, **learn)
    assert facts["steps"] == 5 * 4
    assert (model.predict(x, verbose=0).argmax(-1) == 1).mean() > 0.9


@pytest.mark.parametrize("labelled", quick(1, [4, None]))
def test_strings_are_trained_on_as_they_are(eager, labelled):
    """Keras takes no NumPy strings; compiled, test_text_inputs.py shows it."""

    def build():
        words = keras.layers.StringLookup(vocabulary=["good", "bad"])
        inputs = keras.Input((1,), dtype="string")
        x = keras.layers.Flatten()(keras.layers.Embedding(3, 2)(words(inputs)))
        return keras.Model(inputs, keras.layers.Dense(2)(x))

    x, y = np.array([["good"], ["bad"]] * 8), np.array([0, 1] * 8)
    y_train = y.copy()
    y_train[labelled:] = y[labelled:] if labelled is None else -1
    data = kd.Data(train=(x, y_train), validation=(x, y))
    learn = {**LEARN, "epochs": 4, "learning_rate": 8.0}
    _, control = train(build, data, **learn)
    targets = 9 * np.eye(2, dtype="float32")[y] - 4.5
    _, student = train(build, data, targets=targets, **learn)
    assert control["val_accuracy"] == student["val_accuracy"] == 1.0


@pytest.mark.usefixtures("eager")
def test_best_epoch_on_validation_is_kept():
    data = make_data()
    learn = {**LEARN, "learning_rate": 0.3}
    model, facts = train(build, data, **learn)
    x, y = data.validation
    accuracy = (model.predict(x, verbose=0).argmax(-1) == y).mean()
    assert accuracy == pytest.approx(facts["val_accuracy"])


@pytest.mark.slow
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


# Of arrays, test_step_tuning.py shows it for `fit`.
KINDS = ["dataset", "arrays", "unknown count", "cache", "control"]


@pytest.mark.parametrize("kind", quick(1, KINDS))
def test_steps_that_run_together_change_no_bit(kind, monkeypatch, tmp_path):
    """Weights and history, with sets that know which pass they are in."""
    data, options = make_data(), {"teacher": build()}
    if kind == "cache":
        cache = kd.TeacherCache(tmp_path / "targets")
        cache.build(build(), data.train, verbose=False)
        options = {"cache": cache}
    if kind == "control":
        data, options = make_data(labelled=50), {}

    def trained(together):
        split, executions = data, []
        if kind in ("dataset", "unknown count"):
            train_split = tf.data.Dataset.from_tensor_slices(data.train)
            train_split = train_split.shuffle(60, seed=1).batch(16)
            if kind == "unknown count":
                train_split = train_split.filter(lambda *_: True)
            split = kd.Data(train=train_split, validation=data.validation)
        count_executions(monkeypatch, executions)
        monkeypatch.setattr(rule, "TOGETHER", together)
        model, facts = train(build, split, **options, **LEARN)
        assert facts["steps"] == 3 * 4
        monkeypatch.undo()
        values = map(np.array, facts["history"].values())
        return [*model.get_weights(), *values], len(executions)

    expected, one_by_one = trained(1)
    found, together = trained(16)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one_by_one, together) == (3 * 4, 3)  # from the first epoch on


def count_executions(monkeypatch, executions):
    make = keras.Model.make_train_function

    def counted_make(model, force=False):
        make(model, force)
        run = model.train_function

        def counted(iterator):
            executions.append(model.steps_per_execution)
            return run(iterator)

        model.train_function = counted

    monkeypatch.setattr(keras.Model, "make_train_function", counted_make)


def test_model_that_was_trained_runs_single_steps():
    """Whoever trains it on may have callbacks that count batches."""
    model, _ = train(build, make_data(), **ONCE)
    ends = []
    hear = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(batch)
    )
    x, y = make_data().train
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[hear])
    assert ends == [0, 1, 2, 3]
    assert model.get_compile_config().get("steps_per_execution", 1) == 1


@pytest.mark.slow
def test_training_on_two_replicas_runs_single_steps():
    with two_replicas().scope():
        _, facts = train(build, make_data(), **LEARN)
    assert facts["steps"] == 3 * 4


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda batches: batches.repeat(), "endless batches"),
        (lambda batches: batches.take(0), "0 batches"),
        (lambda batches: batches.filter(lambda *_: False), "0 batches"),
    ],
)
def test_training_split_that_is_empty_or_endless_is_refused(change, received):
    batches = tf.data.Dataset.from_tensor_slices(make_data().train).batch(16)
    data = kd.Data(train=change(batches), validation=make_data().validation)
    with pytest.raises(ValueError, match=f"must end. Received: .*{received}"):
        train(build, data, **LEARN)


@pytest.mark.parametrize("form", [list, dict])
def test_a_task_may_be_of_one_of_several_outputs(form):
    def two_outputs():
        inputs = keras.Input((4,))
        kind = keras.layers.Dense(3, name="kind")(inputs)
        size = keras.layers.Dense(1, name="size")(inputs)
        both = {"kind": kind, "size": size}
        return keras.Model(inputs, both if form is dict else [kind, size])

    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    y = {"kind": x[:, :3].argmax(axis=1), "size": x[:, :1]}
    task = kd.tasks.get({"kind": kd.tasks.Classification()})
    data = kd.Data((x, y), (x, y))
    tf.config.run_functions_eagerly(True)
    try:
        student, facts = train(two_outputs, data, task=task, **ONCE)
    finally:
        tf.config.run_functions_eagerly(False)
    scores = student(x)["kind"] if form is dict else student(x)[0]
    right = (np.argmax(scores, axis=-1) == y["kind"]).mean()
    assert facts["val_accuracy"] == pytest.approx(right)
