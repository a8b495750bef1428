# SPDX-License-Identifier: Apache-2.0
"""Decoding: how the next token is chosen from its logits."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from keras_kd.core.arguments import check_count


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How tokens are chosen; the arguments of `generate`.

    Raises:
        ValueError: If one is out of range, or two do not go together.
    """

    start: int | None
    end: int | None
    max_length: int
    beam: int = 1
    padding: int = 0
    temperature: float = 0.0
    top_k: int | None = None

    def __post_init__(self):
        names = ("start", "end", "padding")
        ids = {name: getattr(self, name) for name in names}
        known = [value for value in ids.values() if value is not None]
        if len(set(known)) < len(known):
            given = ", ".join(f"{name}={value}" for name, value in ids.items())
            raise ValueError(
                "`start`, `end` and `padding` must be three different ids. "
                f"Received: {given}"
            )
        check_count("max_length", self.max_length)
        check_count("beam", self.beam)
        if not 0 <= self.temperature < np.inf:
            raise ValueError(
                "`temperature` must be 0, for the most probable token, or "
                f"above. Received: temperature={self.temperature}"
            )
        if self.temperature and self.beam > 1:
            raise ValueError(
                "Beam search draws nothing by chance. Expected beam=1 or "
                f"temperature=0. Received: beam={self.beam}, "
                f"temperature={self.temperature}"
            )
        if self.top_k is not None:
            check_count("top_k", self.top_k)
            if not self.temperature:
                raise ValueError(
                    "`top_k` is how many tokens chance draws from. Expected a "
                    "`temperature` above 0 with it, such as 1. Received: "
                    f"temperature=0, top_k={self.top_k}"
                )

    def log_probabilities(self, logits):
        """Returns those of what may be chosen, over the last axis."""
        ids = tf.range(logits.shape[-1])
        forbidden = ids == self.padding
        if self.start is not None:
            forbidden |= ids == self.start
        logits = tf.where(forbidden, -np.inf, logits)
        if self.temperature:
            logits /= self.temperature
        if self.top_k is not None:
            count = min(self.top_k, logits.shape[-1])
            least = tf.math.top_k(logits, count).values[..., -1:]
            logits = tf.where(logits < least, -np.inf, logits)
        return tf.nn.log_softmax(logits)

    def pick(self, steps, uniform):
        """Returns int32 tokens `(rows,)`.

        Args:
            steps: What `log_probabilities` gave, `(rows, tokens)`.
            uniform: Numbers of `[0, 1)` by chance, `(rows,)`.
        """
        if not self.temperature:
            return tf.argmax(steps, axis=-1, output_type=tf.int32)
        # In float64: a float32 sum over many tokens loses the rare ones.
        below = tf.cumsum(tf.exp(tf.cast(steps, tf.float64)), axis=-1)
        passed = below <= uniform[:, None] * below[:, -1:]
        return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)

    def ends(self, tokens):
        """Returns which tokens end their sequence."""
        if self.end is None:
            return tf.zeros_like(tokens, tf.bool)
        return tokens == self.end


def prompt_lengths(prompts, padding):
    """Returns int32 lengths `(rows,)`: up to the last that is not padding."""
    places = tf.range(1, tf.shape(prompts)[1] + 1)
    return tf.reduce_max(tf.where(prompts != padding, places, 0), axis=1)
