# SPDX-License-Identifier: Apache-2.0
"""A teacher asked in other processes: batches go there, answers come back."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.engines import Engine as Workers
from keras_kd.targets.build.labelling import teacher_call
from keras_kd.targets.inference.engines import KERAS
from keras_kd.targets.inference.engines import Engine
from keras_kd.teachers.base import Teacher


@dataclasses.dataclass
class Asked:
    """A teacher and what it is asked for; compiled once in each process.

    Args:
        teacher: The teacher.
        taps: What it is asked for.
        spec: Specs of a batch of inputs.
    """

    teacher: Teacher
    taps: tuple[str, ...]
    spec: Any

    @functools.cached_property
    def call(self):
        """See `teacher_call`."""
        return teacher_call(self.teacher, self.taps, self.spec)


def ask(asked: Asked, x: Any) -> dict[str, np.ndarray]:
    """Returns the answers to one batch, in whatever process."""
    return {tap: np.asarray(a) for tap, a in asked.call(x).items()}


def spread(workers: Workers, asked: Asked) -> Engine:
    """Returns the teacher's own call, run in the processes of an engine.

    Unlike others, it reads all batches that it is given before the first
    answer is taken; two for each process are on their way at a time.

    Args:
        workers: Where the teacher is asked.
        asked: The teacher.
    """
    shared = workers.share(asked)
    under_way: set[futures.Future] = set()

    def submitted(x):
        nonlocal under_way
        if len(under_way) >= 2 * workers.slots:
            how = futures.FIRST_COMPLETED
            _, under_way = futures.wait(under_way, return_when=how)
        arrays = tf.nest.map_structure(np.asarray, x)
        future = workers.submit(ask, shared, arrays)
        under_way.add(future)
        return future

    def answers(batches: Iterable) -> Iterator:
        asked_for = [(submitted(x), note) for x, note in batches]
        return ((future.result(), note) for future, note in asked_for)

    return Engine(KERAS, answers, 1.0 if "output" in asked.taps else None)
