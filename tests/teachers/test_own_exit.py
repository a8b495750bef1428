# SPDX-License-Identifier: Apache-2.0
"""OwnExitTeacher: targets from the pass that trains the student."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from distillers.tiny import Count
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from keras_kd.teachers import ClassMapping
from keras_kd.teachers import EnsembleTeacher
from keras_kd.teachers import OwnExitTeacher
from selection import quick
from teachers.learning import digits
from teachers.learning import same_choice

X, Y = features(), labels()
FIT = {"batch_size": len(X), "shuffle": False, "verbose": 0}


def two_exits(*extra, inputs=4, width=8, units=3, activation=None):
    def dense(size, seed, **kwargs):
        initializer = keras.initializers.GlorotUniform(seed)
        return layers.Dense(size, kernel_initializer=initializer, **kwargs)

    x = keras.Input((inputs,))
    shallow = dense(width, 1, activation="relu", name="shallow")(x)
    for layer in extra:
        shallow = layer(shallow)
    deep = dense(width + 2, 2, activation="relu", name="deep")(shallow)
    exits = {
        "early": dense(units, 3, activation=activation, name="early")(shallow),
        "last": dense(units, 4, activation=activation, name="last")(deep),
    }
    return keras.Model(x, exits)


def compiled(student, losses=None, alpha=1.0, exit="last", **compile_with):
    losses = losses or kd.losses.SoftTargets(3.0, student="early")
    distiller = kd.Distiller(
        OwnExitTeacher(exit), student, alpha=alpha, distillation_losses=losses
    )
    return distiller.compile(keras.optimizers.SGD(0.5), **compile_with)


EAGER, XLA = {"run_eagerly": True}, {"jit_compile": True}


@pytest.mark.parametrize(
    ("mode", "activation"),
    quick(
        3,
        [(EAGER, None), (EAGER, "softmax"), (XLA, None), (XLA, "softmax")],
    ),
    ids=str,
)
def test_own_exit_teacher_gives_the_loss_of_its_formula(mode, activation):
    student = two_exits(activation=activation)
    exits = student.predict(X, verbose=0)
    if activation:
        exits = {name: np.log(p) for name, p in exits.items()}
    logs = compiled(student, **mode).fit(X, **FIT).history
    expected = kl(exits["last"], exits["early"], 3.0).mean()
    assert expected > 0.1
    assert logs["soft_targets"] == pytest.approx([expected], rel=1e-4)
    same = exits["last"].argmax(-1) == exits["early"].argmax(-1)
    assert logs["teacher_agreement"] == pytest.approx([same.mean()])


def test_own_exit_teacher_gets_no_gradient():
    student = two_exits()
    before = {w.path: w.numpy() for w in student.weights}
    compiled(student, run_eagerly=True).fit(X, epochs=3, **FIT)
    moved = {
        w.path.split("/")[-2]
        for w in student.weights
        if not np.array_equal(w.numpy(), before[w.path])
    }
    assert moved == {"shallow", "early"}


def test_own_exit_teacher_costs_no_pass():
    count = Count(name="count")
    student = two_exits(count)
    count.calls, count.training_flags = 0, []
    compiled(student, run_eagerly=True).fit(X, batch_size=8, verbose=0)
    assert count.training_flags == [True] * 3


def test_own_exit_teacher_teaches_features_through_a_projector():
    student = two_exits()
    losses = [
        kd.losses.SoftTargets(3.0, student="early"),
        kd.losses.FeatureMatching("deep", "shallow", projector="auto"),
    ]
    distiller = compiled(student, losses, run_eagerly=True)
    assert list(distiller.projectors) == ["feature_matching"]
    history = distiller.fit(X, epochs=10, **FIT).history
    for name in ("soft_targets", "feature_matching"):
        assert history[name][-1] < 0.5 * history[name][0], name


@pytest.mark.parametrize("ways", quick(1, [[], ["graph", "xla"]]))
def test_own_exit_teacher_keeps_the_promises_in_training(ways):
    def make():
        both = {"early": cross_entropy(), "last": cross_entropy()}
        return compiled(two_exits(), alpha=0.3, loss=both)

    y = {"early": Y, "last": Y}
    kd.testing.check_distiller(make, X, y, ways=ways, frozen_teacher=False)


def test_own_exit_teacher_shows_its_targets():
    student = two_exits()
    teacher = compiled(student).teacher
    kd.testing.check_teacher(teacher, X)
    np.testing.assert_allclose(
        teacher(X)["output"], student(X)["last"], rtol=1e-6
    )


def test_own_exit_teacher_can_take_the_place_of_another():
    student = two_exits()
    losses = kd.losses.SoftTargets(3.0, student="early")
    distiller = kd.Distiller(
        linear(1), student, alpha=1.0, distillation_losses=losses
    )
    distiller.compile("sgd", run_eagerly=True)
    other = distiller.fit(X, **FIT).history["soft_targets"]
    distiller.teacher = OwnExitTeacher("last")
    exits = student.predict(X, verbose=0)
    own = distiller.fit(X, **FIT).history["soft_targets"]
    expected = kl(exits["last"], exits["early"], 3.0).mean()
    assert own == pytest.approx([expected], rel=1e-4)
    assert own != pytest.approx(other, rel=1e-3)
    distiller.teacher = linear(1)
    assert distiller.fit(X, **FIT).history["soft_targets"][0] > 0.0


@pytest.mark.slow
def test_own_exit_teacher_makes_the_exits_of_digits_agree():
    x, y = digits()
    student = two_exits(inputs=64, width=24, units=10)
    both = {"early": cross_entropy(), "last": cross_entropy()}
    distiller = compiled(student, alpha=0.3, loss=both)
    distiller.optimizer.learning_rate = 0.3
    before = student(x)
    history = distiller.fit(
        x, {"early": y, "last": y}, batch_size=32, epochs=15, verbose=0
    ).history
    after = student(x)
    agreement = [same_choice(e["early"], e["last"]) for e in (before, after)]
    assert agreement[0] < 0.4 < 0.9 < agreement[1]
    assert same_choice(np.eye(10)[y], after["early"]) > 0.9
    assert history["teacher_agreement"][-1] > history["teacher_agreement"][0]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: OwnExitTeacher(""), "`exit` must name a tap"),
        (
            lambda: compiled(two_exits(), exit="lasst"),
            "No layer or output named 'lasst'.*'last'",
        ),
        (
            lambda: compiled(two_exits(), exit="early"),
            "tap 'early' with itself",
        ),
        (
            lambda: kd.Distiller(OwnExitTeacher("output"), mlp()),
            "tap 'output' with itself",
        ),
        (
            lambda: OwnExitTeacher("last").prepare(["output"]),
            "no student yet",
        ),
        (
            lambda: kd.Distiller(
                EnsembleTeacher([linear(1), OwnExitTeacher("output")]), mlp()
            ),
            "cannot be part of another teacher",
        ),
        (
            lambda: kd.Distiller(
                ClassMapping(OwnExitTeacher("output"), [2, 1, 0], 3), mlp()
            ),
            "cannot be part of another teacher",
        ),
    ],
)
def test_own_exit_teacher_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
