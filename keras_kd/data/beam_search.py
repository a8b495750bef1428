# SPDX-License-Identifier: Apache-2.0
"""Beam search, greedy search and sampling with any sequence model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.core import output_kinds
from keras_kd.core.model_inputs import names_of_inputs
from keras_kd.data.decoding import prompt_lengths

HUB_INPUTS = {"token_ids", "padding_mask"}
"""What language models of KerasHub take."""


def beam_search(model, source, uniform, how):
    """Returns the best sequences of one batch, best first.

    Args:
        model: Takes `[source, target so far]`; or tokens, to go on with.
        source: What the model reads, or prompts `(batch, length)`.
        uniform: Numbers of `[0, 1)` by chance, `(batch, max_length)`.
        how: A `Decoding`.

    Returns:
        Ids `(batch, beam, max_length)` and log-probabilities `(batch, beam)`;
        minus infinity where there are fewer than `beam` sequences.
    """
    beam, padding = how.beam, how.padding
    rows = tf.shape(source)[0]
    next_logits = _reader(model, tf.repeat(source, beam, axis=0), how)
    form = form_of(model)
    positions = tf.range(how.max_length + 1)

    def log_probabilities(sequences, step, done):
        so_far = tf.reshape(sequences, (rows * beam, -1))[:, : step + 1]
        logits = output_kinds.logits_by_values(next_logits(so_far, step), form)
        logits = tf.reshape(logits, (rows, beam, logits.shape[-1]))
        # A finished sequence goes on with padding, at no cost.
        rest = tf.where(tf.range(logits.shape[-1]) == padding, 0.0, -np.inf)
        return tf.where(done[..., None], rest, how.log_probabilities(logits))

    def unfinished(step, sequences, scores, done):
        # Scores only fall: once the best has ended, none can overtake it.
        return (step < how.max_length) & ~tf.reduce_all(done[:, 0])

    def extend(step, sequences, scores, done):
        steps = log_probabilities(sequences, step, done)
        tokens = tf.shape(steps)[-1]
        totals = tf.reshape(scores[..., None] + steps, (rows, -1))
        if how.temperature:
            picked = how.pick(steps[:, 0], uniform[:, step])[:, None]
            scores = tf.gather(totals, picked, batch_dims=1)
        else:
            scores, picked = tf.math.top_k(totals, beam)
        parents, picked = picked // tokens, picked % tokens
        sequences = tf.gather(sequences, parents, batch_dims=1)
        done = tf.gather(done, parents, batch_dims=1) | how.ends(picked)
        here = positions == step + 1
        sequences = tf.where(here, picked[..., None], sequences)
        return step + 1, sequences, scores, done

    first = padding if how.start is None else how.start
    sequences = tf.where(positions == 0, first, padding)
    sequences = tf.tile(sequences[None, None], (rows, beam, 1))
    # All begin alike, so only the first counts at the first step.
    scores = tf.tile([[0.0] + [-np.inf] * (beam - 1)], (rows, 1))
    done = tf.zeros((rows, beam), tf.bool)
    state = (tf.constant(0), sequences, scores, done)
    shapes = tuple(part.shape for part in state)
    _, sequences, scores, _ = tf.while_loop(
        unfinished, extend, state, shape_invariants=shapes
    )
    return sequences[..., 1:], scores


def form_of(model):
    """Returns whether a model gives logits or probabilities, if known."""
    activation = output_heads.activation_of(model)
    loss = getattr(model, "loss", None)
    return output_kinds.trained_kind(activation, None, loss).form


def _reader(model, source, how) -> Callable:
    """Returns what gives the logits `(rows, tokens)` of the next token."""

    def after_source(so_far, step):
        return model([source, so_far], training=False)[:, -1]

    if how.start is not None:
        return after_source
    inputs = getattr(model, "inputs", None)
    window = inputs[0].shape[1] if inputs else None
    takes_mask = names_of_inputs(model) == HUB_INPUTS
    lengths = prompt_lengths(source, how.padding)[:, None]
    longest = tf.shape(source)[1]

    def after_prompt(so_far, step):
        # The prompt, what was written, and padding to one width, which a
        # causal model does not see. One of fixed length reads the last tokens.
        now = lengths + step
        width = window or longest + step
        begin = tf.maximum(now - width, 0)
        places = begin + tf.range(width)
        prompt = tf.clip_by_value(places, 0, longest - 1)
        written = tf.clip_by_value(places - lengths + 1, 0, step)
        tokens = tf.where(
            places < lengths,
            tf.gather(source, prompt, batch_dims=1),
            tf.gather(so_far, written, batch_dims=1),
        )
        tokens = tf.where(places < now, tokens, how.padding)
        tokens = tf.ensure_shape(tokens, (None, window))
        x = {"token_ids": tokens, "padding_mask": places < now}
        logits = model(x if takes_mask else tokens, training=False)
        return tf.gather(logits, (now - 1 - begin)[:, 0], batch_dims=1)

    return after_prompt
