# SPDX-License-Identifier: Apache-2.0
"""Close decisions of a fast engine are left to the teacher itself.

Int8 arithmetic changes a decision where the largest two logits are close, and
hardly ever elsewhere. So it answers what is clear, and the teacher's own call
what is not: slower than int8 alone, but the labels that matter most are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_kd.data.batches import rows_of

ROWS = 32
"""Samples are asked again in so many at a time: a new batch size costs time to
prepare for."""
HELD = 2**24
"""Bytes of answers and inputs that wait for the teacher, about."""
CERTAINTY = 0.99


class LowMargin:
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

    def answers(self, batches: Iterable) -> Iterator:
        """Yields `(answers, note)` for each `(x, note)`, in order.

        Close decisions of several batches are asked again together, since a
        batch has few: its answers wait for those of the next ones.
        """
        held, size = [], 0
        for x, note in batches:
            found = {tap: np.array(v) for tap, v in self.fast(x).items()}
            gaps = margins(found["output"], self.binary)
            close = np.flatnonzero(gaps <= self.margin)
            rows = [tf.gather(a, close).numpy() for a in tf.nest.flatten(x)]
            held.append((found, close, rows, note))
            size += sum(a.nbytes for a in [*found.values(), *rows])
            if size >= HELD:
                yield from self._settled(held, x)
                held, size = [], 0
        if held:
            yield from self._settled(held, x)

    def _settled(self, held, like):
        """Yields what is held, asking again where it is close."""
        parts = zip(*(rows for _, _, rows, _ in held), strict=True)
        rows = [np.concatenate(arrays) for arrays in parts]
        exact = self._asked(tf.nest.pack_sequence_as(like, rows), len(rows[0]))
        for found, close, _, note in held:
            for row in close:
                for tap, value in next(exact).items():
                    found[tap][row] = value
            yield found, note

    def _asked(self, x, count):
        """Yields the teacher's answer to each sample."""
        for first in range(0, count, ROWS):
            # The last one again and again, where rows run out.
            rows = np.minimum(np.arange(first, first + ROWS), count - 1)
            answers = self.own(
                tf.nest.map_structure(tf.constant, rows_of(x, rows))
            )
            found = {tap: np.asarray(v) for tap, v in answers.items()}
            for row in range(min(ROWS, count - first)):
                yield {tap: value[row] for tap, value in found.items()}


def decisions(logits: np.ndarray, binary: bool = False) -> np.ndarray:
    """Returns class ids, or yes/no for independent (or single) units."""
    if binary or logits.shape[-1] == 1:
        return logits > 0
    return logits.argmax(axis=-1)


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
    """Returns the margin up to which the teacher has to decide.

    Args:
        expected: Logits to go by, `(samples, ..., classes)`.
        found: Those of the fast engine.
        agreement: Share of samples whose decisions should be the same, also
            among samples that are not compared here: it is reached with a
            certainty of 99 % if they are of the same kind.
        binary: See `margins`.

    Returns:
        The margin; `None` if it need not decide any.
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
