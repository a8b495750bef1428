# SPDX-License-Identifier: Apache-2.0
"""Decoding with KerasHub's cache of keys and values."""

from __future__ import annotations

import sys

import tensorflow as tf

from keras_kd.data.decoding import prompt_lengths


def has_cache(model) -> bool:
    """Whether it is a causal language model of KerasHub."""
    keras_hub = sys.modules.get("keras_hub")
    return keras_hub is not None and isinstance(
        model, keras_hub.models.CausalLM
    )


def cached_decoding(model, prompts, uniform, how):
    """Returns one continuation for each prompt, as `beam_search` does.

    Returns:
        Ids `(batch, 1, max_length)` and log-probabilities `(batch, 1)`.
    """
    lengths = prompt_lengths(prompts, how.padding)
    room = tf.fill((tf.shape(prompts)[0], how.max_length), how.padding)
    tokens = tf.concat([prompts, room], axis=1)
    mask = tf.range(tf.shape(tokens)[1]) < lengths[:, None]
    sampler = _Sampler(lengths, uniform, how)
    kept = model.sampler
    try:
        model.sampler = sampler
        inputs = {"token_ids": tokens, "padding_mask": mask}
        tokens = model.generate_step(inputs)["token_ids"]
    finally:
        model.sampler = kept
    places = lengths[:, None] + tf.range(how.max_length)
    written = tf.gather(tokens, places, batch_dims=1)
    return written[:, None], sampler.scores[:, None]


class _Sampler:
    """What KerasHub calls in place of one of its own samplers.

    Those draw other tokens for another batch size, and may choose padding.
    """

    def __init__(self, lengths, uniform, how):
        self.lengths, self.uniform, self.how = lengths, uniform, how
        self.scores = None

    def __call__(self, next, prompt, cache, index, **kwargs):
        how, last = self.how, self.how.max_length - 1
        positions = tf.range(tf.shape(prompt)[1])

        def unfinished(index, prompt, cache, scores, done):
            return ~tf.reduce_all(done)

        def extend(index, prompt, cache, scores, done):
            logits, _, cache = next(prompt, cache, index)
            steps = how.log_probabilities(tf.cast(logits, tf.float32))
            step = index - self.lengths
            chance = tf.clip_by_value(step, 0, last)
            chance = tf.gather(self.uniform, chance, batch_dims=1)
            picked = how.pick(steps, chance)
            score = tf.gather(steps, picked, batch_dims=1)
            # Prompts are of different lengths: rows may still be in theirs.
            writes = (step >= 0) & ~done
            here = writes[:, None] & (positions == index)
            prompt = tf.where(here, picked[:, None], prompt)
            scores += tf.where(writes, score, 0.0)
            done |= writes & (how.ends(picked) | (step == last))
            return index + 1, prompt, cache, scores, done

        zeros = tf.zeros_like(self.lengths, tf.float32)
        state = (index, prompt, cache, zeros, zeros > 0)
        _, prompt, _, self.scores, _ = tf.while_loop(unfinished, extend, state)
        return prompt
