# SPDX-License-Identifier: Apache-2.0
"""Schedules as functions of the epoch, and what Schedule refuses."""

from __future__ import annotations

import math
import types

import pytest

import keras_kd as kd
from keras_kd.callbacks import Schedule
from keras_kd.callbacks import cosine
from keras_kd.callbacks import linear
from keras_kd.callbacks import progressive


def test_linear_goes_in_equal_steps_and_stays():
    values = [linear(0.0, 0.8, epochs=4)(epoch) for epoch in range(7)]
    assert values == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_progressive_is_the_schedule_of_the_authors_of_ps_kd():
    """In their code the first epoch's targets are the labels."""
    values = [progressive(0.8, epochs=4)(epoch) for epoch in range(6)]
    assert values == pytest.approx([0.0, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_cosine_goes_along_half_a_cosine_and_stays():
    values = [cosine(8.0, 2.0, epochs=4)(epoch) for epoch in range(7)]
    half = [5.0 + 3.0 * math.cos(math.pi * i / 4) for i in range(5)]
    assert values == pytest.approx([*half, 2.0, 2.0])


@pytest.mark.parametrize("make", [linear, cosine])
def test_schedule_of_one_epoch_starts_at_the_start(make):
    assert [make(3.0, 1.0, 1)(epoch) for epoch in (0, 1)] == [3.0, 1.0]


@pytest.mark.parametrize("make", [linear, cosine])
def test_schedule_refuses_to_last_no_epoch(make):
    with pytest.raises(ValueError, match="at least 1.*epochs=0"):
        make(0.0, 1.0, 0)


def test_schedule_sets_and_logs_by_the_epoch_alone():
    """A resumed run starts at a later epoch and finds the same value."""
    model, logs = types.SimpleNamespace(alpha=0.5, name="model"), {}
    schedule = Schedule("alpha", linear(0.0, 1.0, 10))
    schedule.set_model(model)
    schedule.on_train_begin()
    schedule.on_epoch_begin(7)
    schedule.on_epoch_end(7, logs)
    assert model.alpha == pytest.approx(0.7)
    assert logs == {"alpha": model.alpha}


def test_schedule_refuses_a_number():
    with pytest.raises(ValueError, match="function of the epoch.*0.5"):
        Schedule("alpha", 0.5)


def test_schedule_refuses_an_attribute_that_the_model_lacks():
    schedule = kd.callbacks.Schedule("alfa", linear(0.0, 1.0, 2))
    schedule.set_model(types.SimpleNamespace(alpha=0.5, name="model"))
    with pytest.raises(ValueError, match="no 'alfa' to schedule"):
        schedule.on_train_begin()
