# SPDX-License-Identifier: Apache-2.0
"""What compress() is given reaches every training; the control is fair."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.core.records import StageRecord
from keras_kd.tasks import Headline
from keras_kd.training.augmenting import augmented
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.optimizers import optimizer_for
from keras_kd.training.trainer import has_missing
from keras_kd.training.trainer import train
from keras_kd.workflows.choosing import is_better
from keras_kd.workflows.choosing import still_improving

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int64")
DATA = kd.Data(train=(X, Y), validation=(X[:32], Y[:32]))


def build(width=4):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(2),
        ]
    )


def compressed(folder, **options):
    options = {"epochs": 1, "prune": None, "seeds": (0, 1), **options}
    return kd.compress(
        build(16),
        build,
        DATA,
        folder / "it",
        formats=("tflite",),
        verbose=0,
        **options,
    )


def test_optimizer_is_a_new_one_each_time():
    given = keras.optimizers.SGD(0.3, momentum=0.5)
    first, second = (optimizer_for(given, 1e-3, 10) for _ in range(2))
    assert first is not second is not given
    assert first.get_config() == given.get_config()


def test_optimizer_by_name_has_the_decaying_rate():
    found = optimizer_for("sgd", 0.5, steps=10)
    assert isinstance(found, keras.optimizers.SGD)
    assert float(found._learning_rate(10)) == pytest.approx(0.0, abs=1e-7)
    assert float(found._learning_rate(0)) == 0.5


def test_optimizer_by_function_is_told_the_steps():
    told = []

    def of(steps):
        told.append(steps)
        return keras.optimizers.SGD(0.1)

    _, facts = train(build, DATA, title=None, epochs=2, optimizer=of)
    assert told == [facts["steps"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": 3}, "its name, or a function"),
        ({"optimizer": keras.optimizers.SGD}, "its name, or a function"),
        ({"optimizer": "sgdd"}, "sgdd"),
        ({"augment": 3}, "a function .x, seed."),
        ({"optimizer": "sgd", "search": 3}, "trained by Adam"),
    ],
)
def test_wrong_options_are_refused_before_any_training(
    options, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        compressed(tmp_path, **options)
    assert not any(tmp_path.iterdir())


def test_callbacks_and_metrics_reach_the_training():
    ends = []
    end = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: ends.append(1)
    )
    _, facts = train(
        build,
        DATA,
        title=None,
        epochs=1,
        callbacks=[end],
        optimizer="sgd",
        metrics=["accuracy", "sparse_top_k_categorical_accuracy"],
    )
    assert ends == [1]
    assert facts["val_sparse_top_k_categorical_accuracy"] == 1.0


def noise(x, seed):
    return x + tf.random.stateless_normal((4,), seed)


def test_augmentation_shows_fresh_views_in_each_epoch_and_again_by_seed():
    examples = tf.data.Dataset.from_tensor_slices((X, Y))
    views = augmented(examples, noise, seed=0).batch(64)
    first, second = (next(iter(views))[0].numpy() for _ in range(2))
    assert np.abs(first - second).min(axis=1).max() > 0.0
    again = augmented(examples, noise, seed=0).batch(64)
    np.testing.assert_array_equal(first, next(iter(again))[0])
    assert np.unique(np.round(first - X, 4)[:, 0]).size > 60


def test_teacher_and_student_see_the_same_views():
    """A copy of the teacher, taught on views, has nothing to learn."""
    teacher = build()

    def same():
        student = build()
        student.set_weights(teacher.get_weights())
        return student

    _, facts = train(
        same,
        DATA,
        title=None,
        epochs=2,
        teacher=teacher,
        alpha=1.0,
        augment=noise,
        optimizer="sgd",
    )
    assert max(facts["history"]["soft_targets"]) < 1e-6


def test_a_control_with_few_labels_sees_views_too():
    few = np.where(np.arange(64) < 8, Y, -1)
    arguments = fit_arguments(
        (X, few), 16, seed=0, labelled_only=True, augment=noise
    )
    assert arguments["steps_per_epoch"] == 4
    x, y = next(iter(arguments["x"]))
    assert (y.numpy() >= 0).all()
    distances = np.abs(x.numpy()[:, None] - X[None, :8]).sum(axis=-1)
    assert distances.min() > 1e-3


@pytest.mark.parametrize("form", ["arrays", "tf.data"])
def test_a_control_leaves_out_what_has_no_label_at_any_output(form):
    assert has_missing({"heat": "binary_crossentropy", "sides": "mae"})
    assert not has_missing({"heat": "mse", "sides": "mae"})
    numbers = np.arange(12, dtype="float32")
    heat = np.where(numbers[:, None] < 3, [[0.0, 1.0]], -1.0)
    sides = np.where(numbers[:, None] % 4 == 3, 2.0, -1.0)
    split = numbers[:, None], {"heat": heat, "sides": sides}
    if form == "tf.data":
        split = tf.data.Dataset.from_tensor_slices(split).batch(4)
    arguments = fit_arguments(split, 4, seed=0, labelled_only=True)
    assert arguments["steps_per_epoch"] == 3
    batches = arguments["x"].take(3).as_numpy_iterator()
    shown = np.concatenate([x.ravel() for x, _ in batches])
    assert set(shown) == {0, 1, 2, 3, 7, 11} and len(shown) == 12


def records(*values):
    return [
        StageRecord("student", "student", metrics={"val_error": v})
        for v in values
    ]


def test_better_is_by_the_headline_of_the_validation_split():
    error = Headline("error", "min", "kg")
    assert is_better(records(1.0, 2.0), records(2.0, 2.0), error)
    assert not is_better(records(1.0, 3.0), records(2.0, 2.0), error)


def test_a_student_that_still_improves_is_told():
    made = [
        StageRecord("student", "s", metrics={"best_epoch": n}) for n in (3, 2)
    ]
    assert still_improving(made, 3) == []
    (told,) = still_improving(made[:1], 3)
    assert "more epochs may help" in told


@pytest.mark.slow
def test_a_better_control_is_pruned_alike_and_shipped(tmp_path):
    # A teacher of noise, alone: the student cannot but be worse.
    report = compressed(
        tmp_path,
        alpha=1.0,
        epochs=10,
        learning_rate=0.03,
        prune=0.5,
        prune_epochs=2,
        optimizer="adam",
        augment=noise,
    )
    names = [record.name for record in report.records]
    assert {"control", "pruned", "pruned control"} <= set(names)
    rows = {record.name: record.metrics for record in report.records}
    for name in ("pruned", "pruned control"):
        assert rows[name]["sparsity"] == pytest.approx(0.5, abs=0.1)
    (told,) = (note for note in report.notes if "Ship the control" in note)
    folder = tmp_path / "it" / "control"
    assert str(folder) in told and (folder / "control.tflite").exists()
    kept = kd.measure(
        folder / "control.tflite", (X[:32], Y[:32]), latency=False
    )
    assert kept["accuracy"] == rows["pruned control"]["accuracy"]
    again = kd.Report.load(report.directory)
    assert [r.name for r in again.records] == names
