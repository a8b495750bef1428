# SPDX-License-Identifier: Apache-2.0
"""Functions are measured in turn and compared within each round."""

from __future__ import annotations

import time

from keras_kd.core.interleaved_timing import in_turn
from keras_kd.core.interleaved_timing import medians
from keras_kd.core.interleaved_timing import seconds_of


def test_every_other_round_runs_in_reverse():
    calls = []
    found = in_turn(
        {
            name: lambda item, name=name: calls.append(name + item) or item
            for name in "ab"
        },
        iter("123"),
    )
    assert calls == ["a1", "b1", "b2", "a2", "a3", "b3"]
    assert found == {"a": ["1", "2", "3"], "b": ["1", "2", "3"]}


def test_speedup_is_the_median_within_a_round():
    # All of the second round was slow, and the ratios still hold.
    found = medians({"own": [1.0, 10.0, 2.0], "other": [0.5, 5.0, 2.0]})
    assert found == {"own": (2.0, 1.0), "other": (2.0, 2.0)}


def test_seconds_of_a_call():
    assert 0.01 <= seconds_of(time.sleep, 0.01) < 1.0
