# SPDX-License-Identifier: Apache-2.0
"""A race tells the faster function."""

from __future__ import annotations

import time

import numpy as np
import pytest

from keras_kd.labels import race


def sleeper(milliseconds):
    def call(x):
        time.sleep(milliseconds / 1000)
        return {"output": x}

    return call


def test_race_tells_how_many_times_as_fast(monkeypatch):
    monkeypatch.setattr(race, "ROUND_SECONDS", 0.05)
    batches = [np.zeros((10, 2), "float32")]
    (slow, one), (fast, ratio) = race.race([sleeper(8), sleeper(2)], batches)
    assert one == 1.0
    assert 1.5 < ratio < 8
    assert slow == pytest.approx(10 / 0.008, rel=0.7)
    assert fast > slow


def test_round_of_a_slow_function_is_a_part_of_a_batch(monkeypatch):
    monkeypatch.setattr(race, "ROUND_SECONDS", 0.02)
    asked = []

    def slow(x):
        asked.append(len(x))
        time.sleep(len(x) / 1000)
        return {"output": x}

    race.race([slow], [np.zeros((200, 2), "float32")] * 3)
    assert asked == [200] + [race.LEAST_ROWS] * race.ROUNDS
