# SPDX-License-Identifier: Apache-2.0
"""One student pass and one teacher pass a step; the teacher only predicts."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import Count
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import mlp

X, Y = features(), labels()
FIT = {"batch_size": 12, "epochs": 2, "verbose": 0}
STEPS = 2 * len(X) // 12


def several_losses():
    return [
        kd.losses.SoftTargets(4.0),
        kd.losses.SoftTargets(2.0),
        kd.losses.FeatureMatching("hidden", "hidden"),
        kd.losses.FeatureMatching("middle", "middle"),
    ]


def counting(seed, width=8):
    count = Count(name="count")
    model = mlp(
        layers.Dense(5, name="middle"),
        count,
        layers.BatchNormalization(momentum=0.5, name="norm"),
        layers.Dropout(0.5),
        width=width,
        seed=seed,
    )
    count.calls, count.training_flags = 0, []
    return model, count


def compiled(distiller, **kwargs):
    kwargs = {"loss": cross_entropy(), "run_eagerly": True, **kwargs}
    return distiller.compile(keras.optimizers.SGD(0.1), **kwargs)


def test_distiller_runs_student_and_teacher_once_a_step():
    teacher, of_teacher = counting(1, width=12)
    student, of_student = counting(2)
    distiller = compiled(
        kd.Distiller(teacher, student, distillation_losses=several_losses())
    )
    distiller.fit(X, Y, **FIT)
    assert of_student.training_flags == [True] * STEPS
    assert of_teacher.training_flags == [False] * STEPS


def test_distiller_runs_models_once_a_step_also_in_the_compiled_graph():
    """Variables count the executions, where Python sees traces only."""

    class Counter(layers.Layer):
        def build(self, shape):
            self.count = self.add_weight(
                initializer="zeros", trainable=False, name="count"
            )

        def call(self, x):
            self.count.assign_add(1.0)
            return x

    counters = Counter(), Counter()
    teacher, student = (
        mlp(layers.Dense(5, name="middle"), counter, width=width)
        for counter, width in zip(counters, (12, 8), strict=True)
    )
    distiller = compiled(
        kd.Distiller(teacher, student, distillation_losses=several_losses()),
        run_eagerly=False,
    )
    start = [float(counter.count) for counter in counters]
    distiller.fit(X, Y, **FIT)
    ends = [float(counter.count) for counter in counters]
    assert np.subtract(ends, start).tolist() == [STEPS, STEPS]


def test_distiller_evaluate_and_predict_do_not_run_the_teacher():
    teacher, of_teacher = counting(1)
    student, of_student = counting(2)
    distiller = compiled(
        kd.Distiller(teacher, student, distillation_losses=several_losses()),
        metrics=["accuracy"],
    )
    of_teacher.calls = 0
    distiller.fit(X, Y, validation_data=(X, Y), **FIT)
    assert of_teacher.calls == STEPS
    before = distiller.get_weights(), teacher.get_weights()
    of_teacher.calls, of_student.training_flags = 0, []

    distiller.evaluate(X, Y, verbose=0)
    predicted = distiller.predict(X, verbose=0)

    assert of_teacher.calls == 0
    assert set(of_student.training_flags) == {False}
    assert_same_weights(distiller.get_weights(), before[0])
    assert_same_weights(teacher.get_weights(), before[1])
    np.testing.assert_array_equal(predicted, student.predict(X, verbose=0))


def test_distiller_updates_batch_normalization_once():
    """Closed form of a moving mean after one step from zero."""
    student, _ = counting(2)
    hidden = keras.Model(student.inputs, student.get_layer("count").output)
    mean = hidden.predict(X, verbose=0).mean(0)
    distiller = compiled(
        kd.Distiller(
            counting(1)[0], student, distillation_losses=several_losses()
        )
    )
    distiller.fit(X, Y, batch_size=len(X), verbose=0)
    moved = student.get_layer("norm").moving_mean.numpy()
    np.testing.assert_allclose(moved, 0.5 * mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trainable", [True, False])
def test_distiller_leaves_the_teacher_as_it_was(trainable):
    teacher, _ = counting(1)
    teacher.trainable = trainable
    before = teacher.get_weights()
    flags = [layer.trainable for layer in teacher._flatten_layers()]
    # Compiled where it could be trained.
    mode = {"run_eagerly": not trainable}
    distiller = compiled(kd.Distiller(teacher, mlp(seed=2)), **mode)
    distiller.fit(X, Y, **FIT)
    assert_same_weights(teacher, before)
    assert [layer.trainable for layer in teacher._flatten_layers()] == flags
    assert distiller.teacher is teacher


def test_distiller_teacher_predicts_without_dropout():
    """The targets are those of teacher.predict, in every step."""
    teacher, _ = counting(1)
    seen = []

    class Spy(kd.teachers.FrozenTeacher):
        def __call__(self, x):
            targets = super().__call__(x)
            seen.append(np.array(targets["output"]))
            return targets

    distiller = compiled(kd.Distiller(Spy(teacher), mlp(seed=2)))
    distiller.fit(X, Y, batch_size=6, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        np.concatenate(seen), teacher.predict(X, verbose=0), atol=1e-6
    )


def test_distiller_holds_student_and_projectors_but_no_teacher(tmp_path):
    teacher = mlp(layers.Dense(512), layers.Dense(512), width=12, seed=1)
    student = mlp(seed=2)
    distiller = compiled(
        kd.Distiller(
            teacher,
            student,
            distillation_losses=[
                kd.losses.SoftTargets(),
                kd.losses.FeatureMatching("hidden", "hidden"),
            ],
        )
    )
    projector = distiller.projectors["feature_matching"]
    distiller.fit(X, Y, **FIT)
    kept = {id(v) for v in (*student.weights, *projector.weights)}
    assert {id(v) for v in distiller.weights} == kept
    ids = {id(v) for v in distiller.variables}
    assert not ids & {id(v) for v in teacher.variables}
    assert teacher not in list(distiller._flatten_layers())

    teacher.save(tmp_path / "teacher.keras")
    distiller.save(tmp_path / "distiller.keras")
    distiller.save_weights(tmp_path / "distiller.weights.h5")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["teacher.keras"] > 1_000_000
    assert sizes["distiller.keras"] < 60_000
    assert sizes["distiller.weights.h5"] < 60_000


def test_distiller_trains_its_projectors():
    distiller = compiled(
        kd.Distiller(
            mlp(width=12, seed=1),
            mlp(seed=2),
            alpha=1.0,
            distillation_losses=kd.losses.FeatureMatching("hidden", "hidden"),
        )
    )
    before = distiller.projectors["feature_matching"].get_weights()
    history = distiller.fit(X, **{**FIT, "epochs": 5}).history
    after = distiller.projectors["feature_matching"].get_weights()
    assert np.abs(np.subtract(before, after)).max() > 1e-3
    assert history["loss"][-1] < history["loss"][0]


def test_distiller_runs_no_teacher_when_targets_come_with_the_data():
    teacher, of_teacher = counting(1)
    targets = {"output": teacher.predict(X, verbose=0)}
    of_teacher.calls = 0
    distiller = compiled(kd.Distiller(teacher, mlp(seed=2)))
    distiller.fit(
        {"inputs": X, "teacher_targets": targets}, Y, batch_size=6, verbose=0
    )
    assert of_teacher.calls == 0
