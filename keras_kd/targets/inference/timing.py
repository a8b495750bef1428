# SPDX-License-Identifier: Apache-2.0
"""Timing several engines against the first of them, in turn."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.interleaved_timing import in_turn
from keras_kd.core.interleaved_timing import medians
from keras_kd.core.interleaved_timing import seconds_of
from keras_kd.targets.inference.samples import length
from keras_kd.targets.inference.samples import rows_of

ROUNDS = 3
ROUND_SECONDS = 0.1
LEAST = 32  # samples; fewer would not keep all cores busy


def compare_speed(engines: list, batches: list) -> list[tuple[float, float]]:
    """Times engines in rounds of changing order.

    Each answers once before, so that nothing that is loaded or prepared for
    the first answers is timed.

    Args:
        engines: What has `answers`, as an `Engine` has.
        batches: Inputs; repeated or cut, within a batch too, so that a
            round of the first engine lasts about `ROUND_SECONDS`.

    Returns:
        For each engine its samples per second, and how many times as fast
        as the first it is.
    """
    tensors = _round(engines[0], batches)
    for engine in engines:
        seconds(engine, tensors[:1])
    runs = {
        number: lambda _, engine=engine: seconds(engine, tensors)
        for number, engine in enumerate(engines)
    }
    found = medians(in_turn(runs, range(ROUNDS)))
    samples = sum(map(length, tensors))
    return [(samples / median, speedup) for median, speedup in found.values()]


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

    def read_all():
        for answers, _ in engine.answers((x, None) for x in batches):
            tf.nest.map_structure(np.asarray, answers)

    return seconds_of(read_all)
