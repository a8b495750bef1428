# SPDX-License-Identifier: Apache-2.0
"""Sequence-level distillation: learn from the sequences a teacher writes.

Token by token, a student learns what the teacher says after the *reference*
so far. Kim and Rush train it on whole sequences instead, the ones the
teacher's beam search finds: they are more regular than references, so a
small model can follow them. The two combine: give the generated data to a
`Distiller`.

A sequence model takes `[source, target so far]` and gives logits of shape
`(batch, length, tokens)`, at each position those of the next token. Its
training data is `((source, start + target[:-1]), target)`, see
`teacher_forced`.

Paper: Kim, Rush 2016, https://arxiv.org/abs/1606.07947
"""

from __future__ import annotations

import dataclasses
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.core import output_kinds
from keras_kd.core.progress import progress_bar
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_data
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import compile_for


def generate(
    model: keras.Model,
    inputs: np.ndarray,
    start: int,
    end: int,
    max_length: int,
    beam: int = 1,
    padding: int = 0,
    batch_size: int = 256,
    verbose: bool = False,
) -> np.ndarray:
    """Returns the sequences that a model finds most probable.

    Greedy search with `beam=1`, otherwise beam search by the sum of
    log-probabilities. The model is run on the whole sequence so far at each
    step (it may be any causal model, so nothing is kept between steps), and
    its length grows: the target input must have length `None`.

    Args:
        model: Takes `[source, target so far]`, gives next-token logits (or
            softmax probabilities).
        inputs: Source array of shape `(examples, ...)`.
        start: Id that every target begins with; it is never generated.
        end: Id that ends a sequence.
        max_length: Most tokens of a sequence, `end` included. A sequence
            that has no `end` by then is cut.
        beam: Number of partial sequences that are followed.
        padding: Id that fills up after `end`; it is never generated.
        batch_size: Sources at a time; the model sees `beam` times as many.
        verbose: Whether to show a progress bar.

    Returns:
        Int32 ids of shape `(examples, max_length)`, without `start`.

    Raises:
        ValueError: If an argument is out of range, or the model gives NaN.

    Example:

    ```python
    source = keras.Input((4,))
    so_far = keras.Input((None,), dtype="int32")
    tokens = keras.layers.Embedding(6, 8, mask_zero=True)(so_far)
    state = keras.layers.Dense(8)(source)
    decoded = keras.layers.GRU(8, return_sequences=True)(tokens, state)
    model = keras.Model([source, so_far], keras.layers.Dense(6)(decoded))
    ids = kd.generate(model, np.eye(4), start=1, end=2, max_length=5, beam=3)
    ```
    """
    _check(start, end, max_length, beam, padding)
    batches = as_dataset((inputs,), batch_size)
    search = compile_for(
        lambda x: beam_search(model, x, start, end, max_length, beam, padding),
        *batches.element_spec,
    )
    found, total = [], len(batches)
    with progress_bar("generating", total, "batches", verbose) as advance:
        for (source,) in batches:
            sequences, scores = search(source)
            if np.isnan(scores).any():
                raise ValueError(
                    f"The model '{model.name}' gives NaN, so nothing can be "
                    "generated. Expected finite logits; check how it was "
                    "trained."
                )
            found.append(sequences.numpy()[:, 0])
            advance()
    return np.concatenate(found)


def beam_search(model, source, start, end, max_length, beam, padding):
    """Returns the best sequences of one batch, best first.

    Returns:
        Ids `(batch, beam, max_length)` and log-probabilities `(batch, beam)`;
        minus infinity where there are fewer than `beam` sequences.
    """
    rows = tf.shape(source)[0]
    source = tf.repeat(source, beam, axis=0)
    activation = output_heads.activation_of(model)
    loss = getattr(model, "loss", None)
    form = output_kinds.trained_kind(activation, None, loss).form
    positions = tf.range(max_length + 1)

    def log_probabilities(sequences, step, done):
        so_far = tf.reshape(sequences, (rows * beam, -1))[:, : step + 1]
        logits = model([source, so_far], training=False)[:, -1]
        logits = output_kinds.logits_by_values(logits, form)
        logits = tf.reshape(logits, (rows, beam, logits.shape[-1]))
        ids = tf.range(logits.shape[-1])
        forbidden = (ids == start) | (ids == padding)
        logits = tf.where(forbidden, -np.inf, logits)
        # A finished sequence goes on with padding, at no cost.
        rest = tf.where(ids == padding, 0.0, -np.inf)
        return tf.where(done[..., None], rest, tf.nn.log_softmax(logits))

    def unfinished(step, sequences, scores, done):
        # Scores only fall: once the best has ended, none can overtake it.
        return (step < max_length) & ~tf.reduce_all(done[:, 0])

    def extend(step, sequences, scores, done):
        steps = log_probabilities(sequences, step, done)
        tokens = tf.shape(steps)[-1]
        totals = tf.reshape(scores[..., None] + steps, (rows, -1))
        scores, picked = tf.math.top_k(totals, beam)
        parents, picked = picked // tokens, picked % tokens
        sequences = tf.gather(sequences, parents, batch_dims=1)
        done = tf.gather(done, parents, batch_dims=1) | (picked == end)
        here = positions == step + 1
        sequences = tf.where(here, picked[..., None], sequences)
        return step + 1, sequences, scores, done

    sequences = tf.where(positions == 0, start, padding)
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


def sequence_level(
    teacher: keras.Model,
    data: Data,
    start: int,
    end: int,
    max_length: int | None = None,
    beam: int = 5,
    padding: int = 0,
    batch_size: int = 256,
    verbose: bool = True,
) -> Data:
    """Returns data whose training targets are what the teacher generates.

    Train on it with the student's own `fit`, or with a `Distiller` for both
    levels at once. The targets of the training split are not read, so its
    sources may be unlabelled; validation and test keep their references.
    Sequences that do not end within `max_length` are left out, with a
    warning that tells how many.

    Padding must not be learned: let the student mask it, as
    `Embedding(mask_zero=True)` does, or give the sample weight
    `y != padding`.

    Args:
        teacher: A trained sequence model.
        data: Its splits are `((source, target so far), target)`.
        start: Id that every target begins with.
        end: Id that ends a sequence.
        max_length: Most tokens of a target, `end` included. Defaults to the
            length of the training targets.
        beam: As in `generate`.
        padding: As in `generate`.
        batch_size: As in `generate`.
        verbose: Whether to show a progress bar.

    Raises:
        ValueError: If no generated sequence ends, or as `generate` does.

    Example:

    ```python
    source = keras.Input((4,))
    so_far = keras.Input((None,), dtype="int32")
    tokens = keras.layers.Embedding(6, 8, mask_zero=True)(so_far)
    state = keras.layers.Dense(8)(source)
    decoded = keras.layers.GRU(8, return_sequences=True)(tokens, state)
    teacher = keras.Model([source, so_far], keras.layers.Dense(6)(decoded))
    student = keras.models.clone_model(teacher)

    references = np.array([[3, 4, 2], [5, 2, 0], [4, 2, 0], [2, 0, 0]])
    split = kd.teacher_forced(np.eye(4), references, start=1)
    data = kd.Data(train=split, validation=split)
    teacher.compile(keras.optimizers.Adam(0.1), cross_entropy)
    teacher.fit(*split, epochs=20, verbose=0)
    easier = kd.sequence_level(teacher, data, start=1, end=2)
    student.compile("adam", cross_entropy)
    student.fit(*easier.train, verbose=0)
    ```

    Reference: https://arxiv.org/abs/1606.07947
    """
    data = as_data(data)
    batches = as_dataset(data.train, batch_size)
    pairs = [(x[0], y) for x, y, *_ in batches.as_numpy_iterator()]
    source = np.concatenate([x for x, _ in pairs])
    if max_length is None:
        max_length = max(y.shape[1] for _, y in pairs)
    target = generate(
        teacher,
        source,
        start,
        end,
        max_length,
        beam=beam,
        padding=padding,
        batch_size=batch_size,
        verbose=verbose,
    )
    ended = (target == end).any(axis=1)
    if not ended.any():
        raise ValueError(
            f"None of the {len(ended)} sequences that '{teacher.name}' "
            f"generated ends with {end} within {max_length} tokens. Expected "
            "a trained teacher; check `start`, `end` and `max_length`."
        )
    if not ended.all():
        warnings.warn(
            f"{np.sum(~ended)} of {len(ended)} generated sequences do not end "
            f"within {max_length} tokens; they are left out.",
            stacklevel=2,
        )
    train = teacher_forced(source[ended], target[ended], start, padding)
    return dataclasses.replace(data, train=train)


def teacher_forced(
    source: np.ndarray, target: np.ndarray, start: int, padding: int = 0
) -> tuple:
    """Returns `((source, target so far), target)`, to train on.

    Args:
        source: Array of shape `(examples, ...)`.
        target: Ids of shape `(examples, length)`, ended and padded.
        start: Id to begin with.
        padding: Id that fills up both, at the same places.

    Example:

    ```python
    x, y = kd.teacher_forced(np.eye(2), np.array([[3, 2], [2, 0]]), start=1)
    x[1]  # [[1, 3], [1, 2]]
    ```
    """
    first = np.full_like(target[:, :1], start)
    so_far = np.concatenate([first, target[:, :-1]], axis=1)
    # A mask is made from what the model reads: were the end fed back, the
    # padding after it would be learned as one more token.
    return (source, np.where(target == padding, padding, so_far)), target


def _check(start, end, max_length, beam, padding):
    if len({start, end, padding}) != 3:
        raise ValueError(
            "`start`, `end` and `padding` must be three different ids. "
            f"Received: start={start}, end={end}, padding={padding}"
        )
    for name, value in (("max_length", max_length), ("beam", beam)):
        if value < 1:
            raise ValueError(
                f"`{name}` must be at least 1. Received: {name}={value}"
            )
