# SPDX-License-Identifier: Apache-2.0
"""The speed of two calls is compared in turn, in short rounds."""

from __future__ import annotations

import time

import numpy as np

from keras_kd.targets.inference import timing


def sleeper(milliseconds):
    def call(x):
        time.sleep(milliseconds / 1000)
        return {"output": x}

    return call


def test_speedup_tells_how_many_times_as_fast(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.05)
    ratio = timing.speedup(sleeper(8), sleeper(2), np.zeros((10, 2)))
    assert 1.5 < ratio < 8


def test_round_of_a_slow_call_is_a_part_of_a_batch(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.02)
    asked = []

    def slow(x):
        asked.append(len(x))
        time.sleep(len(x) / 1000)
        return {"output": x}

    timing.speedup(slow, sleeper(0), np.zeros((200, 2)))
    # Twice to see how long it takes, to warm up, and in each round.
    assert asked == [timing.LEAST] * (3 + timing.ROUNDS)


def test_round_of_a_quick_call_is_many_batches(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.1)
    asked = []

    def quick(x):
        asked.append(len(x))
        time.sleep(0.002)
        return {"output": x}

    timing.speedup(quick, sleeper(0), np.zeros((40, 2)))
    assert len(asked) > 10 * timing.ROUNDS
