# SPDX-License-Identifier: Apache-2.0
"""Timing several engines against the first of them, in turn."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.targets.inference.samples import length
from keras_kd.targets.inference.samples import rows_of

ROUNDS = 3
ROUND_SECONDS = 0.1
LEAST = 32  # samples; fewer would not keep all cores busy


def race(engines: list, batches: list) -> list[tuple[float, float]]:
    """Times engines in rounds of changing order.

    Each answers once before, so that nothing that is loaded or prepared for
    the first answers is timed.

    Args:
        engines: What has `answers`, as an `Engine` has.
        batches: Inputs; repeated or cut, within a batch too, so that a
            round of the first engine lasts about `ROUND_SECONDS`.

    Returns:
        For each engine its samples per second, and how many times as fast
        as the first it is: the median of the ratios within a round, which
        other work on the machine moves least.
    """
    tensors = _round(engines[0], batches)
    for engine in engines:
        seconds(engine, tensors[:1])
    rounds = []
    for number in range(ROUNDS):
        order = list(range(len(engines)))[:: 1 if number % 2 else -1]
        took = {index: seconds(engines[index], tensors) for index in order}
        rounds.append([took[index] for index in range(len(engines))])
    rounds = np.array(rounds)
    samples = sum(map(length, tensors))
    return [
        (
            samples / statistics.median(column.tolist()),
            statistics.median((rounds[:, 0] / column).tolist()),
        )
        for column in rounds.T
    ]


def _round(engine, batches):
    """Returns the tensors of one round."""
    few = tf.nest.map_structure(tf.constant, rows_of(batches[0], slice(LEAST)))
    rows = round(ROUND_SECONDS / seconds(engine, [few]) * length(few))
    if rows < length(batches[0]):
        cut = rows_of(batches[0], slice(max(LEAST, rows)))
        return [tf.nest.map_structure(tf.constant, cut)]
    count = round(rows / length(batches[0]))
    chosen = itertools.islice(itertools.cycle(batches), count)
    return [tf.nest.map_structure(tf.constant, x) for x in chosen]


def seconds(engine: Any, batches: list) -> float:
    """Returns the wall time of an engine over batches, answers read."""
    began = time.perf_counter()
    for answers, _ in engine.answers((x, None) for x in batches):
        for value in answers.values():
            np.asarray(value)
    return time.perf_counter() - began
