# SPDX-License-Identifier: Apache-2.0
"""Generation: the sequences that a model writes, token by token."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.model_inputs import names_of_inputs
from keras_kd.core.progress import progress_bar
from keras_kd.data.beam_search import HUB_INPUTS
from keras_kd.data.beam_search import beam_search
from keras_kd.data.cached_decoding import cached_decoding
from keras_kd.data.cached_decoding import has_cache
from keras_kd.data.decoding import Decoding
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import compile_for


def generate(
    model: keras.Model,
    inputs: np.ndarray,
    start: int | None = None,
    end: int | None = None,
    max_length: int = 32,
    beam: int = 1,
    padding: int = 0,
    batch_size: int = 256,
    verbose: bool = False,
    temperature: float = 0.0,
    top_k: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Returns the sequences that a model writes.

    By default the most probable token is taken each time (greedy search).
    With `beam` it is beam search by the sum of log-probabilities; with
    `temperature`, chance draws each token. The model may be

    - an encoder-decoder: it takes `[source, target so far]`, a target input
      of length `None`, and needs `start`;
    - decoder-only, without `start`: it takes tokens (or `token_ids` and
      `padding_mask`), and goes on with prompts. It must be causal. One of a
      fixed input length reads the last tokens that it has room for.

    A model is run on the whole sequence at each step; only a `CausalLM` of
    KerasHub, without `beam`, keeps keys and values between steps.

    Args:
        model: Gives next-token logits (or softmax probabilities) of shape
            `(batch, length, tokens)`.
        inputs: Sources of shape `(examples, ...)`; or prompts, integer
            `(examples, length)`, each filled up with `padding` after its end.
        start: Id that every target of an encoder-decoder begins with; it is
            never generated.
        end: Id that ends a sequence. `None`: all have `max_length` tokens.
        max_length: Most new tokens, `end` included. A sequence that has no
            `end` by then is cut.
        beam: Number of partial sequences that are followed.
        padding: Id that fills up after `end`; it is never generated.
        batch_size: Inputs at a time; the model sees `beam` times as many.
        verbose: Whether to show a progress bar.
        temperature: 0, or what logits are divided by before one is drawn.
        top_k: Draw from this many of the most probable tokens.
        seed: Of the draws. They do not depend on `batch_size`.

    Returns:
        Int32 ids of shape `(examples, max_length)`, the new tokens alone.

    Raises:
        ValueError: If an argument is out of range or does not go with the
            model, a prompt is empty, or the model gives NaN.

    Example:

    ```python
    tokens = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(6, 8)(tokens)
    h = keras.layers.GRU(8, return_sequences=True)(h)
    model = keras.Model(tokens, keras.layers.Dense(6)(h))
    prompts = np.array([[3, 4], [5, 0]])
    kd.generate(model, prompts, end=2, max_length=5)
    kd.generate(model, prompts, max_length=5, temperature=0.8, top_k=3)
    ```
    """
    how = Decoding(start, end, max_length, beam, padding, temperature, top_k)
    _check_model(model, start)
    if start is None:
        inputs = _prompts(inputs, padding)
    cached = start is None and beam == 1 and has_cache(model)
    search = cached_decoding if cached else beam_search
    batches = as_dataset((inputs,), batch_size)
    rows = sum(len(tf.nest.flatten(x)[0]) for (x,) in batches)
    uniform = np.random.default_rng(seed).random((rows, max_length))
    chance = tf.TensorSpec((None, max_length), tf.float64)
    run = compile_for(
        lambda batch: search(model, batch[0], batch[1], how),
        (*batches.element_spec, chance),
    )
    found, begin = [], 0
    with progress_bar("generating", len(batches), "batches", verbose) as step:
        for (x,) in batches:
            stop = begin + len(tf.nest.flatten(x)[0])
            sequences, scores = run((x, tf.constant(uniform[begin:stop])))
            if np.isnan(scores).any():
                raise ValueError(
                    f"The model '{model.name}' gives NaN, so nothing can be "
                    "generated. Expected finite logits; check how it was "
                    "trained."
                )
            found.append(sequences.numpy()[:, 0])
            begin = stop
            step()
    return np.concatenate(found)


def _check_model(model, start):
    names = names_of_inputs(model)
    reads_tokens = len(names) == 1 or names == HUB_INPUTS
    if start is None and names and not reads_tokens:
        raise ValueError(
            f"'{model.name}' has the inputs {sorted(names)}. Expected `start`, "
            "the id that a target begins with, for a model of [source, target "
            "so far]; or a model of tokens alone."
        )
    if start is not None and reads_tokens:
        raise ValueError(
            f"'{model.name}' takes tokens alone, so it goes on with prompts "
            "and `start` says nothing: put it at the beginning of each prompt "
            f"and leave it out here. Received: start={start}"
        )


def _prompts(prompts, padding):
    prompts = np.asarray(prompts)
    if prompts.ndim != 2 or not np.issubdtype(prompts.dtype, np.integer):
        raise ValueError(
            "Prompts must be token ids, an integer array (examples, length); "
            "turn text into ids with the tokenizer of the model. Received: "
            f"{prompts.dtype} {prompts.shape}"
        )
    empty = np.flatnonzero((prompts == padding).all(axis=1))
    if len(empty):
        raise ValueError(
            f"A prompt must have a token that is not padding ({padding}). "
            f"Received: none in row {empty[0]}, and {len(empty)} such rows."
        )
    return prompts.astype(np.int32)
