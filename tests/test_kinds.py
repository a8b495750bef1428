# SPDX-License-Identifier: Apache-2.0
"""Kinds of distillation on real digits, from data to accuracy.

100 of 1,077 training scans have a label. The control learns from these
alone, in as many steps from the same weights.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import softmax
from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import digits
from teachers.learning import same_choice

EPOCHS, BATCH = 10, 64


@functools.cache
def few_labels():
    return digits.load_data(labelled=100)


@functools.cache
def control():
    """Returns the accuracy of a student that has no teacher."""
    x, y = few_labels().train
    steps = EPOCHS * -(-len(x) // BATCH)
    labelled = y != UNLABELLED
    keras.utils.set_random_seed(0)
    student = digits.build_student()
    student.compile(keras.optimizers.Adam(1e-2), cross_entropy())
    student.fit(
        x[labelled], y[labelled], batch_size=50, epochs=steps // 2, verbose=0
    )
    assert int(student.optimizer.iterations) == steps
    return accuracy(student)


@functools.cache
def forest():
    """Returns a teacher that is no neural network: decision trees."""
    x, y = digits.load_teacher_data().train
    trees = RandomForestClassifier(
        50, min_samples_leaf=2, random_state=0, n_jobs=1
    )
    return trees.fit(x.reshape(len(x), -1), y)


def log_probabilities(x):
    probabilities = forest().predict_proba(x.reshape(len(x), -1))
    return np.log(np.maximum(probabilities, 1e-3)).astype("float32")


def accuracy(model):
    x, y = few_labels().test
    return np.mean(model.predict(x, verbose=0).argmax(-1) == y)


def distil(teacher, x, y, losses, alpha):
    keras.utils.set_random_seed(0)
    student = digits.build_student()
    distiller = kd.Distiller(
        teacher, student, alpha=alpha, distillation_losses=losses
    )
    distiller.compile(keras.optimizers.Adam(1e-2), cross_entropy())
    distiller.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return student


@pytest.mark.slow
def test_pseudo_labels_gain_over_no_teacher():
    x, y = few_labels().train
    assert np.sum(y == UNLABELLED) == len(y) - 100
    teacher = kd.teachers.CallableTeacher(log_probabilities, (10,))
    student = distil(teacher, x, y, kd.losses.HardTargets(), alpha=0.5)
    assert accuracy(student) > control() + 0.03


@pytest.mark.slow
def test_targets_from_arrays_gain_over_no_teacher(tmp_path):
    x, y = few_labels().train
    np.save(tmp_path / "targets.npy", log_probabilities(x))
    targets = {"output": np.load(tmp_path / "targets.npy")}
    student = distil(
        None,
        kd.attach_targets(x, targets),
        y,
        kd.losses.SoftTargets(2.0),
        alpha=0.9,
    )
    assert accuracy(student) > control() + 0.03
    unseen, _ = few_labels().test
    said = log_probabilities(unseen)
    assert same_choice(said, student.predict(unseen, verbose=0)) > 0.9


@pytest.mark.slow
def test_targets_from_arrays_must_belong_to_their_images():
    """The witness that it is the targets that teach."""
    x, y = few_labels().train
    targets = {"output": np.roll(log_probabilities(x), 1, axis=0)}
    student = distil(
        None,
        kd.attach_targets(x, targets),
        y,
        kd.losses.SoftTargets(2.0),
        alpha=0.9,
    )
    assert accuracy(student) < control()


@pytest.mark.slow
def test_last_epoch_makes_a_student_less_confident_and_as_good():
    x, y = digits.load_teacher_data().train
    x_test, _ = few_labels().test
    epochs, steps = 15, -(-len(x) // BATCH)

    def trained(end):
        keras.utils.set_random_seed(0)
        student = digits.build_student()
        distiller = kd.Distiller(
            kd.teachers.LastEpochTeacher(steps), student, 1.0, alpha=0.0
        )
        distiller.compile(keras.optimizers.Adam(1e-2), cross_entropy())
        rising = kd.callbacks.Schedule(
            "alpha", kd.callbacks.progressive(end, epochs)
        )
        distiller.fit(
            x, y, batch_size=BATCH, epochs=epochs, callbacks=[rising], verbose=0
        )
        p = softmax(student.predict(x_test, verbose=0))
        return accuracy(student), p.max(-1).mean()

    plain, softened = trained(0.0), trained(0.8)
    assert softened[0] > 0.93
    assert softened[0] > plain[0] - 0.02
    assert softened[1] < plain[1] - 0.01


def halves(x):
    return {"upper": x[:, :4], "lower": x[:, 4:]}


@pytest.mark.slow
def test_teacher_of_two_modalities_teaches_a_student_of_one():
    """The teacher sees both halves of a scan, the student the upper one."""
    (x, y), (x_test, y_test) = few_labels().train, few_labels().test
    keras.utils.set_random_seed(0)
    whole = digits.build_teacher()
    _, y_teacher = digits.load_teacher_data().train
    whole.compile(keras.optimizers.Adam(1e-3), cross_entropy())
    whole.fit(x, y_teacher, batch_size=32, epochs=10, verbose=0)

    def upper(name):
        image = keras.Input((4, 8, 1), name="upper")
        scores = keras.layers.Flatten()(image)
        scores = keras.layers.Dense(24, activation="relu")(scores)
        scores = keras.layers.Dense(10)(scores)
        return keras.Model({"upper": image}, scores, name=name)

    # What only the teacher sees travels in the same batch; a model takes the
    # entries of a dict that it has inputs for.
    teacher = kd.teachers.FrozenTeacher(
        whole, lambda x: keras.ops.concatenate([x["upper"], x["lower"]], axis=1)
    )
    keras.utils.set_random_seed(0)
    student = upper("student")
    distiller = kd.Distiller(teacher, student, temperature=2.0, alpha=0.9)
    distiller.compile(keras.optimizers.Adam(1e-2), cross_entropy())
    distiller.fit(halves(x), y, batch_size=BATCH, epochs=EPOCHS, verbose=0)

    keras.utils.set_random_seed(0)
    alone, labelled = upper("alone"), y != UNLABELLED
    alone.compile(keras.optimizers.Adam(1e-2), cross_entropy())
    alone.fit(
        {"upper": x[labelled, :4]},
        y[labelled],
        batch_size=50,
        epochs=int(distiller.optimizer.iterations) // 2,
        verbose=0,
    )
    found = {
        model.name: np.mean(
            model.predict({"upper": x_test[:, :4]}, verbose=0).argmax(-1)
            == y_test
        )
        for model in (student, alone)
    }
    assert found["student"] > found["alone"] + 0.02, found


@pytest.mark.slow
def test_chain_of_assistants_ends_in_a_student_that_gains():
    def assistant():
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(48, activation="relu"),
                keras.layers.Dense(10),
            ]
        )

    student, records = kd.teach_through(
        kd.teachers.CallableTeacher(log_probabilities, activation="linear"),
        [assistant, digits.build_student],
        few_labels(),
        temperature=2.0,
        alpha=0.9,
        epochs=EPOCHS,
        batch_size=BATCH,
        learning_rate=1e-2,
    )
    assert len(records) == 2
    assert accuracy(student) > control() + 0.05
