# SPDX-License-Identifier: Apache-2.0
"""A second look at close decisions, by the teacher itself.

Int8 arithmetic changes a decision where the largest two logits are close, and
hardly ever elsewhere. So it answers what is clear, and the teacher's own call
what is not: slower than int8 alone, but the labels that matter most are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_kd.labels.closeness import decisions

ROWS = 16
"""Samples are asked again in multiples of these: a new batch size costs time
to prepare for."""
CERTAINTY = 0.99


class SecondLook:
    """Answers by a fast engine, and close decisions by the teacher's call.

    Args:
        fast: Returns `{tap: array}` for a batch of inputs.
        own: The teacher's own call, likewise.
        margin: Decisions of `fast` by this much or less are not relied on;
            see `margins`.
        binary: Whether the output is logits of independent yes/no units.
    """

    def __init__(
        self, fast: Callable, own: Callable, margin: float, binary: bool = False
    ):
        self.fast = fast
        self.own = own
        self.margin = margin
        self.binary = binary

    def __call__(self, x) -> dict:
        answers = {tap: np.array(value) for tap, value in self.fast(x).items()}
        close = np.flatnonzero(
            margins(answers["output"], self.binary) <= self.margin
        )
        if len(close):
            # The last one again and again, up to a multiple of `ROWS`.
            rows = np.pad(close, (0, -len(close) % ROWS), mode="edge")
            exact = self.own(
                tf.nest.map_structure(lambda a: tf.gather(a, rows), x)
            )
            for tap, value in exact.items():
                answers[tap][close] = np.asarray(value)[: len(close)]
        return answers


def margins(logits: np.ndarray, binary: bool = False) -> np.ndarray:
    """Returns by how much each sample's decision was made, `(samples,)`.

    The gap between its largest two logits, or for yes/no units the distance
    from zero; the least one of a sample with several decisions.

    Args:
        logits: `(samples, ..., classes)`.
        binary: Whether they are of independent yes/no units.
    """
    if binary or logits.shape[-1] == 1:
        gaps = np.abs(logits)
    else:
        second, first = np.moveaxis(np.partition(logits, -2)[..., -2:], -1, 0)
        gaps = first - second
    return gaps.reshape(len(gaps), -1).min(axis=1)


def margin_for(
    expected: np.ndarray,
    found: np.ndarray,
    agreement: float,
    binary: bool = False,
) -> float | None:
    """Returns the margin up to which decisions need a second look.

    Args:
        expected: Logits to go by, `(samples, ..., classes)`.
        found: Those of the fast engine.
        agreement: Share of samples whose decisions should be the same, also
            among samples that are not compared here: it is reached with a
            certainty of 99 % if they are of the same kind.
        binary: See `margins`.

    Returns:
        The margin; `None` if no second look is needed.
    """
    same = decisions(expected, binary) == decisions(found, binary)
    wrong = ~same.reshape(len(same), -1).all(axis=1)
    by = np.sort(margins(found, binary)[wrong])[::-1]
    spared = allowed(len(expected), agreement)
    return float(by[spared]) if len(by) > spared else None


def allowed(count: int, agreement: float) -> int:
    """Returns how many of that many samples may be decided otherwise.

    So few that fewer than 1 of 100 such samples would show no more of them if
    the share among all were larger than agreed (Poisson). At least 0.
    """
    mean = count * (1.0 - agreement)
    chance = below = math.exp(-mean)
    for number in range(1, count):
        if below > 1.0 - CERTAINTY:
            return max(number - 2, 0)
        chance *= mean / number
        below += chance
    return count
