# SPDX-License-Identifier: Apache-2.0
"""How many times as fast one call answers as another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core import interleaved_timing
from keras_kd.data.batches import length
from keras_kd.data.batches import rows_of

ROUNDS = 3
ROUND_SECONDS = 0.1
LEAST = 32  # samples; fewer would not keep all cores busy


def speedup(own: Callable, other: Callable, x: Any) -> float:
    """Returns how many times as fast as `own` the other call is.

    Args:
        own: Returns `{tap: array or tensor}` for a batch of inputs.
        other: Likewise.
        x: A batch, which is cut or repeated so that a round of `own` lasts
            about `ROUND_SECONDS`.
    """
    x = rows_of(x, slice(max(LEAST, int(ROUND_SECONDS / seconds_each(own, x)))))
    # Whatever is loaded or prepared for the first answers is not timed.
    repeats = max(1, round(ROUND_SECONDS / seconds(own, x)))
    seconds(other, x)
    calls = {"own": own, "other": other}
    timers = {
        name: lambda _, call=call: seconds(call, x, repeats)
        for name, call in calls.items()
    }
    found = interleaved_timing.in_turn(timers, range(ROUNDS))
    return interleaved_timing.medians(found)["other"][1]


def seconds_each(call: Callable, x: Any) -> float:
    """Returns what a call takes per sample, by the first few of a batch."""
    few = rows_of(x, slice(LEAST))
    seconds(call, few)
    return seconds(call, few) / length(few)


def seconds(call: Callable, x: Any, repeats: int = 1) -> float:
    """Returns the wall time of a call, answers read."""
    began = time.perf_counter()
    for _ in range(repeats):
        tf.nest.map_structure(np.asarray, call(x))
    return time.perf_counter() - began
