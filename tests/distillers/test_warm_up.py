# SPDX-License-Identifier: Apache-2.0
"""The weight of a loss may rise from 0 over the first steps."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import dense
from distillers.tiny import features
from distillers.tiny import kl
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import nll
from selection import quick

X, Y = features(), labels()
ONCE = {"batch_size": len(X), "shuffle": False, "verbose": 0}
STEPS = 4
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


class Traced(kd.Distiller):
    """Counts how often its step is traced: Python runs only then."""

    traces = 0

    def train_step(self, data):
        type(self).traces += 1
        return super().train_step(data)


def compiled(rate=0.0, alpha=0.5, **options):
    options.setdefault("warm_up_steps", STEPS)
    distiller = Traced(
        linear(seed=1),
        linear(seed=2),
        alpha=alpha,
        distillation_losses=kd.losses.SoftTargets(4.0, weight=3.0, **options),
    )
    return distiller.compile(keras.optimizers.SGD(rate), cross_entropy())


def by_step(distiller, key, steps):
    """Returns what is logged in each step: an epoch here is one step."""
    return distiller.fit(X, Y, epochs=steps, **ONCE).history[key]


@pytest.mark.parametrize(
    ("warm_up_steps", "shares"), [(STEPS, SHARES), (0, [1.0] * 3)]
)
def test_loss_rises_by_the_step(warm_up_steps, shares):
    Traced.traces = 0
    distiller = compiled(warm_up_steps=warm_up_steps)
    teacher, student = dense(linear(seed=1), X), dense(linear(seed=2), X)
    soft, hard = kl(teacher, student, 4.0).mean(), nll(Y, student).mean()
    logs = distiller.fit(X, Y, epochs=len(shares), **ONCE).history
    expected = [0.5 * share * 3.0 * soft + 0.5 * hard for share in shares]
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    # The loss itself is logged as it is.
    assert logs["soft_targets"] == pytest.approx([soft] * len(shares), rel=1e-5)
    assert Traced.traces == 1


@pytest.mark.parametrize("step", quick(1, range(len(SHARES))))
def test_gradient_rises_by_the_step(step):
    changes = []
    for warm_up_steps in (STEPS, 0):
        distiller = compiled(0.1, alpha=1.0, warm_up_steps=warm_up_steps)
        distiller.optimizer.iterations.assign(step)
        before = distiller.student.get_weights()
        by_step(distiller, "loss", steps=1)
        after = distiller.student.get_weights()
        changes.append([a - b for a, b in zip(after, before, strict=True)])
    assert np.abs(changes[1][0]).max() > 0.01
    for warm, full in zip(*changes, strict=True):
        np.testing.assert_allclose(warm, SHARES[step] * full, atol=1e-6)


def test_only_the_loss_that_warms_up_is_held_back():
    losses = [
        kd.losses.SoftTargets(4.0, warm_up_steps=STEPS),
        kd.losses.FeatureMatching("scores", "scores", weight=2.0),
    ]
    teacher, student = linear(seed=1), linear(seed=2)
    squares = np.square(dense(teacher, X) - dense(student, X)).mean()
    distiller = kd.Distiller(
        teacher, student, alpha=1.0, distillation_losses=losses
    ).compile(keras.optimizers.SGD(0.0), cross_entropy())
    first = by_step(distiller, "loss", steps=1)
    assert first == pytest.approx([2.0 * squares], rel=1e-5)


def test_assigned_weight_is_what_the_warm_up_rises_to():
    Traced.traces = 0
    distiller = compiled(alpha=1.0)
    by_step(distiller, "loss", steps=2)
    soft = by_step(distiller, "soft_targets", steps=1)[0]
    distiller.distillation_losses[0].weight = 8.0
    received = by_step(distiller, "loss", steps=2)
    assert received == pytest.approx([0.75 * 8.0 * soft, 8.0 * soft], rel=1e-5)
    assert Traced.traces == 1


@pytest.mark.slow
def test_saved_distiller_goes_on_in_its_warm_up(tmp_path):
    def build():
        distiller = kd.Distiller(
            linear(seed=1),
            linear(seed=2),
            alpha=0.5,
            distillation_losses=kd.losses.SoftTargets(warm_up_steps=STEPS),
        )
        return distiller.compile(keras.optimizers.Adam(0.1), cross_entropy())

    whole, stopped = build(), build()
    expected = by_step(whole, "loss", steps=5)
    by_step(stopped, "loss", steps=2)
    stopped.save(tmp_path / "distiller.keras")
    resumed = keras.models.load_model(tmp_path / "distiller.keras")
    assert resumed.distillation_losses[0].warm_up_steps == STEPS
    resumed.teacher = linear(seed=1)
    received = by_step(resumed, "loss", steps=3)
    assert received == pytest.approx(expected[2:], rel=1e-5)
    assert_same_weights(resumed.student, whole.student, tolerance=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kd.losses.Decoupled(warm_up_steps=20),
        lambda: kd.losses.Review(["a"], ["b"], warm_up_steps=20),
    ],
    ids=["Decoupled", "Review"],
)
def test_methods_whose_papers_warm_up_take_the_steps(make):
    loss = kd.losses.deserialize(kd.losses.serialize(make()))
    weights = [float(loss.weight_at(step)) for step in (0, 10, 20, 30)]
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0])
