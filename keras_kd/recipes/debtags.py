# SPDX-License-Identifier: Apache-2.0
"""Tags of Debian packages from a line of text: any of 60 at once, few labels.

    keras-kd run debtags

People have given 30,303 packages of Debian tags such as `role::program`,
`uitoolkit::gtk` or `use::gameplaying`. The input is a package's name and its
one-line description, cut into words. The 60 commonest tags are told.

The teacher, convolutions over words, learned from the tags of all training
packages. The student, a mean of word vectors and one hidden layer, has the tags
of 500 packages; for the others it has the teacher's answers only: how
likely each tag is.

Packages that are built from one source are in one split, since their
descriptions are alike. The headline is the mean average precision over the
tags, which needs no threshold; macro-F1, beside it, counts a yes above 0.5, and
a model that has seen a tag twice is never so sure. Settings were chosen on the
validation split, with one seed.

Expected: the distilled student is far above the same student trained on 500
packages alone (the control).

Data: the package index of Debian 12.15, its last release; apt's own list of it
is read, where there is one. The tags are the work of the Debtags project,
https://debtags.debian.org.
"""

from __future__ import annotations

import collections
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterable

import keras
import numpy as np
from keras import layers

import keras_kd as kd
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

about = dict(
    task="multi-label, 500 tagged packages",
    data="30,303 Debian packages, 60 tags",
    licence="package texts and tags: Debian, free",
    minutes="5",
    gained="+23.81 points of mean average precision (+22.75 to +24.87)",
)
settings = dict(
    task=kd.tasks.MultiLabel(metric="mean_average_precision"),
    temperature=1.0,
    alpha=0.9,  # most packages have no tags to learn from
    batch_size=128,
    teacher_epochs=10,
    teacher_learning_rate=2e-3,
    epochs=10,
    learning_rate=1e-2,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
    quantize=(None, "int8"),  # None is float32
)

FILE = "packages.txt"
SHA256 = {
    FILE: "31b1b5d160a154e15bd6de7072bdec621cbbd0102a21aed812b70026637a5b3b"
}
FIELDS = ("Package", "Source", "Description", "Tag")
TAGS = 60
WORDS = 6000
"""Words that are told apart. 0 is padding, 1 any other."""
LENGTH = 16
"""Words of a package that are read; 99 % have fewer."""
Package = tuple[str, str, list[str]]  # source, text, tags


def load_data(labelled: int | None = 500) -> Data:
    """Returns word numbers `(n, 16)` and, for each tag, 0 or 1 `(n, 60)`.

    Of ten sources in a row, by name, eight are for training, one for
    validation and one for the test.

    Args:
        labelled: How many training packages keep their tags; those of the
            others are marked unknown (-1). `None` keeps all.

    Raises:
        FileNotFoundError: If the index can be had from no source.
    """
    sources = {"apt's lists of Debian 12": from_apt}
    content = _fetch.fetch("debtags", SHA256, sources)[FILE]
    splits = split(parse(content.decode("utf-8")))
    tags = commonest((tag for _, _, tags in splits[0] for tag in tags), TAGS)
    words = commonest(
        (word for _, text, _ in splits[0] for word in words_of(text)), WORDS - 2
    )
    train, validation, test = (arrays(part, words, tags) for part in splits)
    if labelled is not None:
        hidden = np.random.default_rng(0).permutation(len(train[1]))
        train[1][hidden[labelled:]] = UNLABELLED
    return Data(train=train, validation=validation, test=test)


def load_teacher_data() -> Data:
    """Returns the same splits with all tags: what the teacher saw."""
    return load_data(labelled=None)


def from_apt() -> dict[str, bytes]:
    """Returns the fields that are needed of Debian 12's tagged packages.

    Where the system has no list of them, a private one is made.
    """
    wanted = ["Created-By: Packages", "Codename: bookworm", "Component: main"]
    asked = ["indextargets", "--format", "$(FILENAME)", *wanted]
    with tempfile.TemporaryDirectory(prefix="keras-kd-") as folder:
        options: list[str] = []
        if not said_by("apt-get", *asked).strip():
            options = _sources.private_lists(pathlib.Path(folder))
            _sources.run(["apt-get", *options, "update"], pathlib.Path(folder))
        lists = said_by("apt-get", *options, *asked).split()
        if not lists:
            raise FileNotFoundError("apt knows no list of Debian 12's main")
        index = said_by("/usr/lib/apt/apt-helper", "cat-file", lists[0])
    return {FILE: tagged_only(index).encode("utf-8")}


def said_by(*command: str) -> str:
    """Returns what a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    return done.stdout.decode("utf-8")


def tagged_only(index: str) -> str:
    """Returns the `FIELDS` of an index' tagged packages, one a line."""
    packages = []
    for paragraph in index.split("\n\n"):
        unfolded = paragraph.replace("\n ", " ").splitlines()
        fields = dict(line.split(": ", 1) for line in unfolded if ": " in line)
        if "Tag" in fields:
            fields["Source"] = fields.get("Source", fields["Package"]).split()[
                0
            ]
            packages.append("\t".join(fields.get(k, "") for k in FIELDS))
    return "\n".join(sorted(packages))


def parse(content: str) -> list[Package]:
    """Returns source, text and tags of each package.

    `TODO` is no tag: it says that the right one is missing.
    """
    packages = []
    for line in content.splitlines():
        name, source, text, tags = line.split("\t")
        known = [tag for tag in tags.split(", ") if not tag.endswith("TODO")]
        packages.append((source, f"{name} {text}", known))
    return packages


def split(packages: list[Package]) -> list[list[Package]]:
    """Returns training, validation and test packages."""
    sources = sorted({source for source, _, _ in packages})
    turn = {source: place % 10 for place, source in enumerate(sources)}
    parts: list[list[Package]] = [[], [], []]
    for package in packages:
        parts[max(turn[package[0]] - 7, 0)].append(package)
    return parts


def commonest(things: Iterable[str], count: int) -> dict[str, int]:
    """Returns the places of the commonest, from 0."""
    found = collections.Counter(things).most_common(count)
    return {thing: place for place, (thing, _) in enumerate(found)}


def words_of(text: str) -> list[str]:
    """Returns words in small letters; `libfoo-perl` is two."""
    return re.findall("[a-z0-9+]+", text.lower())[:LENGTH]


def arrays(
    packages: list[Package], words: dict[str, int], tags: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns int32 word numbers `(n, 16)` and 0 or 1 by tag `(n, tags)`."""
    x = np.zeros((len(packages), LENGTH), "int32")
    y = np.zeros((len(packages), len(tags)), "int32")
    for row, (_, text, given) in enumerate(packages):
        numbers = [words.get(word, -1) + 2 for word in words_of(text)]
        x[row, : len(numbers)] = numbers
        y[row, [tags[tag] for tag in given if tag in tags]] = 1
    return x, y


def build_teacher() -> keras.Model:
    """Convolutions over vectors of 128 numbers: about 920,000 weights."""
    words = keras.Input((LENGTH,), dtype="int32", name="words")
    x = layers.Embedding(WORDS, 128)(words)
    x = layers.SpatialDropout1D(0.2)(x)
    near = layers.Conv1D(256, 3, padding="same", activation="relu")(x)
    x = layers.Concatenate()(
        [
            layers.GlobalMaxPooling1D()(near),
            layers.GlobalAveragePooling1D()(x),
        ]
    )
    x = layers.Dropout(0.3)(x)
    return keras.Model(words, layers.Dense(TAGS)(x), name="teacher")


def build_student() -> keras.Model:
    """A mean of vectors of 16 numbers: about 100,000 weights."""
    words = keras.Input((LENGTH,), dtype="int32", name="words")
    x = layers.Embedding(WORDS, 16)(words)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(words, layers.Dense(TAGS)(x), name="student")
