# SPDX-License-Identifier: Apache-2.0
"""A teacher is asked once for all students, and again only if it must be."""

from __future__ import annotations

import pathlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import losses
from keras_kd.data.splits import Data
from keras_kd.targets.attached import outputs_of
from keras_kd.teachers import CallableTeacher
from keras_kd.teachers import FrozenTeacher
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.trainer import train

X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
Y = np.arange(60) % 3


class Counting(FrozenTeacher):
    """Counts the samples it is asked for."""

    def __init__(self, model):
        super().__init__(model)
        self._asked = []  # private, so no part of its identity

    @property
    def asked(self):
        return sum(self._asked)

    def __call__(self, x):
        def count(rows):
            self._asked.append(int(rows))
            return np.int64(0)

        tf.numpy_function(count, [tf.shape(x)[0]], tf.int64)
        return super().__call__(x)


def network(width, seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(width, activation="relu", name="hidden"),
            keras.layers.Dense(3),
        ]
    )


def data():
    return Data(train=(X, Y), validation=(X[:9], Y[:9]))


def targets_of(tmp_path, distillation_losses=None, seed=7):
    teacher = Counting(network(6, seed))
    return TeacherTargets(
        teacher, data(), distillation_losses, tmp_path / "targets"
    )


def features():
    return [
        losses.SoftTargets(2.0),
        losses.FeatureMatching(teacher="hidden", student="hidden"),
    ]


def weights_after(**arguments):
    model, _ = train(
        lambda: network(5, 1), data(), title="", epochs=2, **arguments
    )
    return model.get_weights()


def test_stored_logits_are_the_teachers(tmp_path):
    found = targets_of(tmp_path)
    targets = found.for_training()["targets"]["linear"]
    expected = outputs_of(found.teacher, (X, Y), verbose=False)
    np.testing.assert_array_equal(targets, expected)


def test_a_second_run_does_not_ask_the_teacher(tmp_path):
    first, second, third = (targets_of(tmp_path) for _ in range(3))
    first.for_training()
    second.for_training()
    third.for_pruning(8)
    asked = [one.teacher.asked for one in (first, second, third)]
    assert asked == [len(X), 0, 0]


def test_another_teacher_replaces_the_labels_and_nothing_beside(tmp_path):
    folder = tmp_path / "targets"
    beside = [folder / "train2017", folder / "0123456789abcdef"]
    for path in beside:  # as it might be ours, but no manifest says so
        path.mkdir(parents=True)
        (path / "settings.json").touch()
    first = targets_of(tmp_path).for_training()["targets"]["linear"]
    (made,) = set(filter(pathlib.Path.is_dir, folder.iterdir())) - {*beside}
    second = targets_of(tmp_path, seed=8).for_training()["targets"]["linear"]
    assert np.abs(first - second).max() > 0.01
    assert not made.exists() and all(path.is_dir() for path in beside)
    assert len(list(filter(pathlib.Path.is_dir, folder.iterdir()))) == 3


def test_labels_behind_a_link_are_left_alone(tmp_path):
    targets_of(tmp_path).for_training()
    home = (tmp_path / "targets").rename(tmp_path / "home")
    (tmp_path / "targets").symlink_to(home)
    targets_of(tmp_path, seed=8).for_training()
    assert len(list(filter(pathlib.Path.is_dir, home.iterdir()))) == 2


def test_another_preprocessing_replaces_the_labels(tmp_path):
    def targets(scale):
        teacher = FrozenTeacher(network(6, 7), lambda x: scale * x)
        found = TeacherTargets(teacher, data(), None, tmp_path / "targets")
        return found.for_training()["targets"]["linear"]

    first, second, again = targets(1.0), targets(3.0), targets(3.0)
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(second, again)


@pytest.mark.slow
def test_features_are_stored_and_train_the_students(tmp_path):
    found = targets_of(tmp_path, features())
    for _ in range(2):
        arguments = found.for_training()
        assert set(arguments) == {"cache"}
        weights_after(distillation_losses=features(), **arguments)
    pruning_data, teacher = found.for_pruning(8)
    assert teacher is None
    (x, _), *_ = pruning_data.train.take(1)
    assert {"hidden", "output"} <= set(x["teacher_targets"])
    assert found.teacher.asked == len(X)


@pytest.mark.slow
def test_loss_that_remembers_samples_gets_their_numbers(tmp_path):
    loss = losses.Contrastive(features=4, negatives=8, memory=64)
    arguments = targets_of(tmp_path, loss).for_training()
    weights_after(distillation_losses=loss, **arguments)


def test_without_a_folder_features_are_asked_for_in_the_step():
    found = TeacherTargets(Counting(network(6, 7)), data(), features())
    assert set(found.for_training()) == {"teacher"}


def test_fingerprint_is_of_the_content_of_tf_data(capsys):
    """One label of the test split; a name stands for all of it."""

    def found(last, name=None):
        y = np.append(Y[:8], last)
        test = tf.data.Dataset.from_tensor_slices((X[:9], y)).batch(4)
        arrays = X[:9], Y[:9]
        both = Data(arrays, arrays, test, identity=name)
        return TeacherTargets(network(2, 1), both).fingerprint

    assert found(0) == found(0) != found(1)
    assert "reading the tf.data sets once" in capsys.readouterr().out
    assert found(0, "shoes 1") == found(1, "shoes 1") != found(0, "shoes 2")
    assert capsys.readouterr().out == ""


def test_fingerprint_says_what_it_cannot_see_into(capsys):
    lock = threading.Lock()  # such as a session

    def targets(**options):
        teacher = CallableTeacher(lambda x: (lock, x)[1], (4,), **options)
        return TeacherTargets(teacher, data()).fingerprint

    assert targets() != targets()
    said = capsys.readouterr().out
    assert "cannot see into _thread.lock of the teacher" in said
    assert "identity=" in said
    assert targets(identity="a 1") == targets(identity="a 1")
    assert targets(identity="a 1") != targets(identity="a 2")
    assert capsys.readouterr().out == ""
