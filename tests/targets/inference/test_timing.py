# SPDX-License-Identifier: Apache-2.0
"""Engines are timed in turn with the first."""

from __future__ import annotations

import time

import numpy as np
import pytest

from keras_kd.targets.inference import timing
from keras_kd.targets.inference.engines import Engine


def sleeper(milliseconds):
    def call(x):
        time.sleep(milliseconds / 1000)
        return {"output": x}

    return Engine(f"{milliseconds} ms", call)


def test_comparison_tells_how_many_times_as_fast(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.05)
    batches = [np.zeros((10, 2), "float32")]
    (slow, one), (fast, ratio) = timing.compare_speed(
        [sleeper(8), sleeper(2)], batches
    )
    assert one == 1.0
    assert 1.5 < ratio < 8
    assert slow == pytest.approx(10 / 0.008, rel=0.7)
    assert fast > slow


def test_round_of_a_slow_function_is_a_part_of_a_batch(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.02)
    asked = []

    def slow(x):
        asked.append(len(x))
        time.sleep(len(x) / 1000)
        return {"output": x}

    timing.compare_speed(
        [Engine("slow", slow)], [np.zeros((200, 2), "float32")] * 3
    )
    # To see how long it takes, to warm up, and in each round.
    assert asked == [timing.LEAST] * (2 + timing.ROUNDS)
