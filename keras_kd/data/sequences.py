# SPDX-License-Identifier: Apache-2.0
"""Sequence-level distillation: learn from the sequences a teacher writes.

Token by token, a student learns what the teacher says after the *reference*
so far. Kim and Rush train it on whole sequences instead, the ones the
teacher's beam search finds: they are more regular than references, so a
small model can follow them. The two combine: give the generated data to a
`Distiller`.

`generate` says which models. The training data of an encoder-decoder is
`((source, start + target[:-1]), target)`, see `teacher_forced`.

Paper: Kim, Rush 2016, https://arxiv.org/abs/1606.07947
"""

from __future__ import annotations

import dataclasses
import warnings

import keras
import numpy as np

from keras_kd.data.generation import generate
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_data
from keras_kd.data.splits import as_dataset


def sequence_level(
    teacher: keras.Model,
    data: Data,
    start: int | None = None,
    end: int | None = None,
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

    Without `start` the teacher is decoder-only and the inputs of the training
    split are prompts. The new split is `(tokens, next token, weight)` then:
    the weight is 1 where the teacher wrote and 0 in the prompt and padding.

    Padding must not be learned: let an encoder-decoder mask it, as
    `Embedding(mask_zero=True)` does, or give the sample weight
    `y != padding`.

    Args:
        teacher: A trained sequence model.
        data: Its splits are `((source, target so far), target)`; or, of
            prompts, `(prompt, anything)`.
        start: As in `generate`.
        end: As in `generate`.
        max_length: Most tokens of a target, `end` included. Defaults to the
            length of the training targets; must be given without `start`.
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
    pairs = [(x, y) for x, y, *_ in batches.as_numpy_iterator()]
    if start is None:
        source = _stacked([x for x, _ in pairs], padding)
        if max_length is None:
            raise ValueError(
                "How many tokens the teacher may add to a prompt is not known. "
                "Expected `max_length`, or `start` for an encoder-decoder. "
                "Received: max_length=None, start=None"
            )
    else:
        source = np.concatenate([x[0] for x, _ in pairs])
        max_length = max_length or max(y.shape[1] for _, y in pairs)
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
    ended = (target == end).any(axis=1) | (end is None)
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
    source: np.ndarray,
    target: np.ndarray,
    start: int | None = None,
    padding: int = 0,
) -> tuple:
    """Returns what to train on so that `target` is written after `source`.

    Args:
        source: Array of shape `(examples, ...)`; prompts without `start`.
        target: Ids of shape `(examples, length)`, ended and padded.
        start: Id that the targets of an encoder-decoder begin with. `None`:
            the model is decoder-only.
        padding: Id that fills up both, at the same places.

    Returns:
        `((source, target so far), target)`; without `start` `(tokens, next
        token, weight)`, each of shape `(examples, prompt length + length -
        1)`. The float32 weight is 1 where the next token is one of `target`.

    Example:

    ```python
    x, y = kd.teacher_forced(np.eye(2), np.array([[3, 2], [2, 0]]), start=1)
    x[1]  # [[1, 3], [1, 2]]
    prompts = np.array([[4, 5], [4, 0]])
    x, y, weight = kd.teacher_forced(prompts, np.array([[3, 2], [2, 0]]))
    x, weight  # [[4, 5, 3], [4, 0, 0]], [[0, 1, 1], [1, 0, 0]]
    ```
    """
    if start is None:
        return _after_prompts(source, target, padding)
    first = np.full_like(target[:, :1], start)
    so_far = np.concatenate([first, target[:, :-1]], axis=1)
    # A mask is made from what the model reads: were the end fed back, the
    # padding after it would be learned as one more token.
    return (source, np.where(target == padding, padding, so_far)), target


def _after_prompts(prompts, target, padding):
    prompts, target = np.asarray(prompts), np.asarray(target)
    is_token = prompts != padding
    lengths = prompts.shape[1] - is_token[:, ::-1].argmax(axis=1)
    room = np.full_like(target, padding)
    tokens = np.concatenate([prompts, room], axis=1, dtype=np.int32)
    places = lengths[:, np.newaxis] + np.arange(target.shape[1])
    np.put_along_axis(tokens, places, target, axis=1)
    y = tokens[:, 1:]
    own = np.arange(1, tokens.shape[1]) >= lengths[:, np.newaxis]
    # What was written after ended: the end is not fed back, as above.
    x = np.where(own & (y == padding), padding, tokens[:, :-1])
    return x, y, (own & (y != padding)).astype("float32")


def _stacked(batches, padding):
    """Returns the prompts of all batches, filled up to one length."""
    length = max(batch.shape[1] for batch in batches)
    padded = [
        np.pad(
            batch,
            [(0, 0), (0, length - batch.shape[1])],
            constant_values=padding,
        )
        for batch in batches
    ]
    return np.concatenate(padded)
