# SPDX-License-Identifier: Apache-2.0
"""Checkpoints hold the student and its training, and go on where it was."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import mlp
from selection import quick

X, Y = features(), labels()
FIT = {"batch_size": 12, "shuffle": False, "verbose": 0}


def teacher():
    return mlp(width=12, seed=1)


def build(student=None, projector="auto", **compile_with):
    keras.utils.set_random_seed(5)
    distiller = kd.Distiller(
        teacher(),
        student or mlp(seed=2),
        alpha=0.6,
        distillation_losses=[
            kd.losses.SoftTargets(3.0),
            kd.losses.FeatureMatching("hidden", "hidden", projector=projector),
        ],
    )
    return distiller.compile(
        # With a state, as Adam, but of a third of the operations.
        keras.optimizers.SGD(0.1, momentum=0.9),
        **{
            "loss": cross_entropy(),
            "metrics": ["accuracy"],
            "run_eagerly": True,
            **compile_with,
        },
    )


def load(path):
    distiller = keras.models.load_model(path)
    distiller.teacher = teacher()
    return distiller


def test_distiller_config_round_trip():
    distiller = build()
    config = json.loads(json.dumps(distiller.get_config()))
    copy = kd.Distiller.from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config
    assert (copy.alpha, copy.temperature) == (0.6, 3.0)
    assert copy.name == distiller.name
    assert copy.teacher is None
    shapes = [w.shape for w in distiller.get_weights()]
    assert [w.shape for w in copy.get_weights()] == shapes
    assert "teacher" not in config


def test_distiller_config_keeps_what_was_assigned_later():
    distiller = build()
    distiller.alpha, distiller.temperature = 0.25, 7.0
    copy = kd.Distiller.from_config(distiller.get_config())
    assert (copy.alpha, copy.temperature) == (0.25, 7.0)


def dense_projector():
    return layers.Dense(12, name="mine", kernel_initializer="ones")


@pytest.mark.parametrize("projector", quick(1, ["auto", "layer"]))
def test_distiller_trains_on_after_loading_as_if_never_saved(
    tmp_path, projector
):
    def make():
        layer = dense_projector() if projector == "layer" else projector
        return build(projector=layer)

    reference, distiller = make(), make()
    expected = [reference.fit(X, Y, **FIT).history for _ in range(2)][1]

    distiller.fit(X, Y, **FIT)
    distiller.save(tmp_path / "distiller.keras")
    loaded = load(tmp_path / "distiller.keras")
    assert_same_weights(loaded, distiller)
    assert_same_weights(
        loaded.projectors["feature_matching"],
        distiller.projectors["feature_matching"],
    )
    history = loaded.fit(X, Y, **FIT).history

    assert history == expected
    assert_same_weights(loaded, reference)
    for one, two in zip(
        loaded.optimizer.variables, reference.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_distiller_loaded_evaluates_and_predicts_without_a_teacher(tmp_path):
    distiller = build()
    distiller.fit(X, Y, **FIT)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.teacher is None
    assert loaded.evaluate(X, Y, verbose=0) == distiller.evaluate(
        X, Y, verbose=0
    )
    np.testing.assert_array_equal(
        loaded.predict(X, verbose=0), distiller.predict(X, verbose=0)
    )


def test_distiller_weights_file_restores_students_and_projectors(tmp_path):
    distiller, other = build(), build(mlp(seed=9))
    distiller.fit(X, Y, **FIT)
    distiller.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(AssertionError):
        assert_same_weights(distiller, other)
    other.load_weights(tmp_path / "a.weights.h5")
    assert_same_weights(distiller, other)


def test_distiller_weights_file_does_not_depend_on_the_teacher(tmp_path):
    """A file is read by a distiller with another teacher, or with none."""
    student, other = mlp(seed=2), mlp(seed=9)
    distiller = kd.Distiller(teacher(), student)
    distiller.save_weights(tmp_path / "a.weights.h5")
    kd.Distiller(None, other).load_weights(tmp_path / "a.weights.h5")
    assert_same_weights(student, other)


def test_distiller_student_is_saved_as_a_plain_model(tmp_path):
    distiller = build()
    distiller.fit(X, Y, **FIT)
    distiller.student.save(tmp_path / "student.keras")
    student = keras.models.load_model(tmp_path / "student.keras")
    assert type(student) is keras.Sequential
    np.testing.assert_array_equal(
        student.predict(X, verbose=0), distiller.predict(X, verbose=0)
    )


class Stop(keras.callbacks.Callback):
    """Ends the run as a crash would, in the middle of the third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if len(self.model.history.epoch) == 2 and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_distiller_resumes_from_a_backup_to_the_same_weights(tmp_path):
    reference = build()
    reference.fit(X, Y, epochs=4, **FIT)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        build().fit(X, Y, epochs=4, callbacks=[backup(), Stop()], **FIT)
    resumed = build(mlp(seed=9))
    history = resumed.fit(X, Y, epochs=4, callbacks=[backup()], **FIT)
    assert history.epoch == [2, 3]
    assert_same_weights(resumed, reference)


def test_distiller_model_checkpoint_keeps_the_best(tmp_path):
    path = tmp_path / "best.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="val_loss", save_best_only=True
    )
    distiller = build()
    history = distiller.fit(
        X,
        Y,
        epochs=3,
        validation_data=(X, Y),
        callbacks=[checkpoint],
        **FIT,
    ).history
    loaded = load(path)
    best = loaded.evaluate(X, Y, batch_size=12, verbose=0, return_dict=True)
    assert best["loss"] == pytest.approx(min(history["val_loss"]))
    # Teacher and student in one file would be told by its size.
    with_teacher = tmp_path / "teacher.keras"
    mlp(layers.Dense(256), layers.Dense(256), seed=1).save(with_teacher)
    assert path.stat().st_size < with_teacher.stat().st_size / 3


def test_distiller_mixed_precision_trains_on_after_loading(tmp_path):
    def make():
        keras.config.set_dtype_policy("mixed_float16")
        student = mlp(seed=2)
        keras.config.set_dtype_policy("float32")
        keras.utils.set_random_seed(5)
        distiller = kd.Distiller(mlp(seed=1), student)
        assert distiller.dtype_policy.name == "mixed_float16"
        return distiller.compile("adam", cross_entropy(), run_eagerly=True)

    reference, distiller = make(), make()
    assert type(reference.optimizer).__name__ == "LossScaleOptimizer"
    for _ in range(2):
        reference.fit(X, Y, **FIT)
    distiller.fit(X, Y, **FIT)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.teacher = mlp(seed=1)
    loaded.fit(X, Y, **FIT)
    assert_same_weights(loaded, reference)
