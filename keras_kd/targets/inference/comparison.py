# SPDX-License-Identifier: Apache-2.0
"""Comparison: ways to run a teacher against its own call, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.targets.inference.closeness import Closeness
from keras_kd.targets.inference.closeness import compare
from keras_kd.targets.inference.low_margin import LowMargin
from keras_kd.targets.inference.low_margin import margin_for
from keras_kd.targets.inference.low_margin import margins
from keras_kd.targets.inference.timing import length

LEAST = 0.75
"""Share of equal decisions below which a second look would take too long."""


class Comparison:
    """Holds the teacher's own answers, and judges other engines by them.

    The teacher is asked for no more batches than an engine is compared on,
    and only once, however many engines there are.

    Args:
        own: The engine of the teacher's own call.
        batches: Batches of inputs.
        agreement: See `engines.choose`.
        binary: Whether the output is logits of independent yes/no units.
    """

    def __init__(
        self,
        own: Any,
        batches: list,
        agreement: float | None,
        binary: bool,
    ):
        self.own = own
        self.batches = batches
        self.agreement = agreement
        self.binary = binary
        self.samples = sum(map(length, batches))
        self._expected: list[dict[str, np.ndarray]] = []

    def judge(self, engine: Any, second_look: bool = False) -> None:
        """Compares an engine on all batches, unless it has lost before.

        Args:
            engine: An `Engine`, whose `agreement`, `largest_difference`,
                `compared` and `reason` are set.
            second_look: Whether the teacher may answer for it where its
                decision is close; sets its `margin` and `asked_again`, too.
        """
        found = []
        for number, x in enumerate(self.batches):
            x = tf.nest.map_structure(tf.constant, x)
            found.append(_arrays(engine(x)))
            expected, got = _joined(self._answers(number)), _joined(found)
            close = compare(expected, got, self.binary)
            engine.compared = len(next(iter(got.values())))
            if second_look:
                is_lost = _is_hopeless(close)
            else:
                is_lost = self._is_lost(close, engine.compared)
            if is_lost:
                break
        else:
            if second_look:
                close = self._relieved(engine, expected, got, close)
        engine.agreement = close.agreement
        engine.largest_difference = close.largest_difference
        engine.reason = close.objection(self.agreement)

    def _relieved(self, engine, expected, got, close):
        """Has the teacher answer where it has to; returns what comes of it."""
        engine.margin = margin_for(
            expected["output"], got["output"], self.agreement, self.binary
        )
        if engine.margin is None:
            return close
        again = margins(got["output"], self.binary) <= engine.margin
        engine.asked_again = float(again.mean())
        engine.call = LowMargin(
            engine.call, self.own, engine.margin, self.binary
        )
        for tap, values in expected.items():
            got[tap][again] = values[again]
        return compare(expected, got, self.binary)

    def _answers(self, number):
        """Returns the teacher's own answers to a batch and those before."""
        while len(self._expected) <= number:
            x = self.batches[len(self._expected)]
            x = tf.nest.map_structure(tf.constant, x)
            self._expected.append(_arrays(self.own(x)))
        return self._expected[: number + 1]

    def _is_lost(self, close: Closeness, compared: int) -> bool:
        """Whether no further batch could change the verdict."""
        if close.agreement is not None and self.agreement is not None:
            others = round((1.0 - close.agreement) * compared)
            if others > (1.0 - self.agreement) * self.samples:
                return True
            return close.objection(0.0) is not None
        return close.objection(self.agreement) is not None


def _is_hopeless(close):
    """Whether a second look could not help, or would at most samples."""
    return close.agreement < LEAST or close.objection(0.0) is not None


def _arrays(answer):
    return {tap: np.asarray(value) for tap, value in answer.items()}


def _joined(answers):
    return {
        tap: np.concatenate([answer[tap] for answer in answers])
        for tap in answers[0]
    }
