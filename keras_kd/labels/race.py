# SPDX-License-Identifier: Apache-2.0
"""Timing several functions against the first of them, in turn."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

ROUNDS = 5
ROUND_SECONDS = 0.2


def race(calls: list[Callable], batches: list) -> list[tuple[float, float]]:
    """Times functions of a batch in rounds of changing order.

    Each should have run before, so that nothing is traced or loaded here.

    Args:
        calls: Functions `x -> {tap: array or tensor}`.
        batches: Inputs; repeated or cut so that a round of the first
            function lasts about `ROUND_SECONDS`.

    Returns:
        For each function its samples per second, and how many times as fast
        as the first it is: the median of the ratios within a round, which
        other work on the machine moves least.
    """
    tensors = [tf.nest.map_structure(tf.constant, x) for x in batches]
    once = seconds(calls[0], tensors)
    count = max(1, round(len(tensors) * ROUND_SECONDS / once))
    tensors = list(itertools.islice(itertools.cycle(tensors), count))
    rounds = []
    for number in range(ROUNDS):
        order = list(range(len(calls)))[:: 1 if number % 2 else -1]
        took = {index: seconds(calls[index], tensors) for index in order}
        rounds.append([took[index] for index in range(len(calls))])
    rounds = np.array(rounds)
    samples = sum(map(length, tensors))
    return [
        (
            samples / statistics.median(column.tolist()),
            statistics.median((rounds[:, 0] / column).tolist()),
        )
        for column in rounds.T
    ]


def seconds(call: Callable, batches: list) -> float:
    """Returns the wall time of a function over batches, answers read."""
    began = time.perf_counter()
    for x in batches:
        for value in call(x).values():
            np.asarray(value)
    return time.perf_counter() - began


def length(x: Any) -> int:
    """Returns the number of samples in a batch."""
    return len(tf.nest.flatten(x)[0])
