# SPDX-License-Identifier: Apache-2.0
"""alpha and temperature may change at any time, without a new trace."""

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
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


class Traced(kd.Distiller):
    """Counts how often its step is traced: Python runs only then."""

    traces = 0

    def train_step(self, data):
        type(self).traces += 1
        return super().train_step(data)


def compiled(cls=kd.Distiller, rate=0.0, **kwargs):
    distiller = cls(linear(seed=1), linear(seed=2), 4.0, 0.5)
    return distiller.compile(
        keras.optimizers.SGD(rate), cross_entropy(), **kwargs
    )


def expected(alpha, temperature):
    teacher, student = dense(linear(seed=1), X), dense(linear(seed=2), X)
    soft = kl(teacher, student, temperature).mean()
    return alpha * soft + (1.0 - alpha) * nll(Y, student).mean()


@pytest.mark.parametrize("jit_compile", quick(1, [False, True]))
def test_distiller_assignments_between_epochs_do_not_retrace(jit_compile):
    Traced.traces = 0
    distiller = compiled(Traced, jit_compile=jit_compile)
    for alpha, temperature in ((0.5, 4.0), (0.9, 4.0), (0.9, 1.5), (0.0, 9.0)):
        distiller.alpha, distiller.temperature = alpha, temperature
        assert (distiller.alpha, distiller.temperature) == (alpha, temperature)
        loss = distiller.fit(X, Y, **FIT).history["loss"][0]
        assert loss == pytest.approx(expected(alpha, temperature), rel=1e-5)
    assert Traced.traces == 1


def test_distiller_assignment_within_an_epoch_counts_from_the_next_batch():
    class Halfway(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.alpha = (0.0, 0.0, 1.0)[batch]

    Traced.traces = 0
    distiller = compiled(Traced)
    loss = distiller.fit(X, Y, callbacks=[Halfway()], **FIT).history["loss"][0]
    teacher, student = dense(linear(seed=1), X), dense(linear(seed=2), X)
    soft, hard = kl(teacher, student, 4.0), nll(Y, student)
    by_hand = np.concatenate([hard[:16], soft[16:]]).mean()
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert Traced.traces == 1


def test_distiller_assigned_alpha_equals_constructed_alpha():
    changed, constructed = linear(seed=2), linear(seed=2)
    distiller = kd.Distiller(linear(seed=1), changed, 4.0, 0.5)
    distiller.alpha, distiller.temperature = 0.9, 2.0
    for one in (
        distiller,
        kd.Distiller(linear(seed=1), constructed, 2.0, 0.9),
    ):
        one.compile(
            keras.optimizers.SGD(0.1), cross_entropy(), run_eagerly=True
        )
        one.fit(X, Y, **FIT)
    assert_same_weights(changed, constructed)


def test_distiller_temperature_is_that_of_all_its_losses():
    losses = [
        kd.losses.FeatureMatching(),
        kd.losses.SoftTargets(2.0),
        kd.losses.SoftTargets(6.0),
    ]
    distiller = kd.Distiller(
        linear(seed=1), linear(seed=2), distillation_losses=losses
    )
    assert distiller.temperature == 2.0
    distiller.temperature = 3.0
    assert [loss.temperature for loss in losses[1:]] == [3.0, 3.0]


def test_distiller_new_teacher_is_used_from_the_next_fit():
    distiller = compiled()
    distiller.fit(X, Y, **FIT)
    distiller.teacher = linear(seed=8)
    logs = distiller.fit(X, Y, **FIT).history
    soft = kl(dense(linear(seed=8), X), dense(distiller.student, X), 4.0)
    assert logs["soft_targets"][0] == pytest.approx(soft.mean(), rel=1e-5)


# What they return is tested in test_callbacks.py.
@pytest.mark.parametrize(
    "make", quick(1, [kd.callbacks.linear, kd.callbacks.cosine])
)
def test_distiller_follows_schedules_and_logs_them(make):
    Traced.traces = 0
    alpha, temperature = make(0.0, 0.9, 3), make(8.0, 1.0, 2)
    history = (
        compiled(Traced)
        .fit(
            X,
            Y,
            epochs=5,
            callbacks=[
                kd.callbacks.Schedule("alpha", alpha),
                kd.callbacks.Schedule("temperature", temperature),
            ],
            **FIT,
        )
        .history
    )
    assert history["alpha"] == [alpha(epoch) for epoch in range(5)]
    assert history["temperature"] == [temperature(e) for e in range(5)]
    pairs = zip(history["alpha"], history["temperature"], strict=True)
    assert history["loss"] == pytest.approx(
        [expected(a, t) for a, t in pairs], rel=1e-5
    )
    assert Traced.traces == 1
