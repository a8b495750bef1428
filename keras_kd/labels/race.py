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

ROUNDS = 3
ROUND_SECONDS = 0.2
LEAST_ROWS = 32  # fewer would not keep all cores busy


def race(calls: list[Callable], batches: list) -> list[tuple[float, float]]:
    """Times functions of a batch in rounds of changing order.

    Each should have run before, so that nothing is traced or loaded here.

    Args:
        calls: Functions `x -> {tap: array or tensor}`.
        batches: Inputs; repeated or cut, within a batch too, so that a
            round of the first function lasts about `ROUND_SECONDS`.

    Returns:
        For each function its samples per second, and how many times as fast
        as the first it is: the median of the ratios within a round, which
        other work on the machine moves least.
    """
    tensors = _round(calls[0], batches)
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


def _round(call, batches):
    """Returns the tensors of one round."""
    first = tf.nest.map_structure(tf.constant, batches[0])
    count = ROUND_SECONDS / seconds(call, [first])
    if count < 1.0:
        rows = max(LEAST_ROWS, round(count * length(first)))
        return [tf.nest.map_structure(lambda array: array[:rows], first)]
    chosen = itertools.islice(itertools.cycle(batches), round(count))
    return [tf.nest.map_structure(tf.constant, x) for x in chosen]


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
