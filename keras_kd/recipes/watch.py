# SPDX-License-Identifier: Apache-2.0
"""Exercises told by a smartwatch: subjects without labels, subjects held out.

    keras-kd run watch

Ten people did seven shoulder exercises with a smartwatch on (acceleration
and rotation, 50 times a second). An example is a window of two seconds. The
teacher, a convolutional network, learned from the labels of five people. The
student, a hundred times smaller, has the labels of one of them; for the
windows of the other four it has the teacher's answers only.

Nobody is in two splits: two other people are the validation split, and the
last three the test split, so figures are those of a watch on a new wrist. The
settings were chosen by the validation split.

Expected: the distilled student stands above the same student trained on the
labels of one person (the control). Three people are few: the interval tells
how much depends on the seed, not on who is tested.

Data: Burns et al. 2018, https://arxiv.org/abs/1802.01489, in the package
seglearn 1.2.5 of PyPI (BSD-3-Clause). Nothing of the package is run: its file
is a pickle, of which arrays and nothing else are made.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

about = dict(
    task="classification of time series, labels of one person",
    data="seven exercises, smartwatches of ten people",
    licence="BSD-3-Clause",
    minutes="4",
    gained="+18.83 points of accuracy (+13.66 to +24.00)",
)
settings = dict(
    temperature=2.0,
    alpha=0.9,  # most windows have no label to learn from
    batch_size=64,
    teacher_epochs=15,
    teacher_learning_rate=2e-3,
    epochs=40,
    learning_rate=1e-2,
    prune=None,
    seeds=(0, 1, 2, 3, 4),
    quantize=(None, "int8"),  # None is float32
)

FILE = "watch_dataset.npy"
SHA256 = {
    FILE: "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
}
WHEEL = "seglearn-1.2.5-py3-none-any.whl"
TRAIN, VALIDATION, TEST = (1, 2, 3, 4, 5), (6, 7), (8, 9, 10)
WINDOW, STEP = 100, 50  # two seconds, one second on


def load_data(labelled: tuple[int, ...] | None = (1,)) -> Data:
    """Returns windows of five people to train on, of two and of three.

    Windows are `(count, 100, 6)`, float32: acceleration in g and rotation in
    rad/s, three axes each.

    Args:
        labelled: Numbers of the people of the training split who keep their
            labels; the windows of others are marked unlabelled (-1). `None`
            keeps all labels.

    Raises:
        FileNotFoundError: If the file can be had from no source.
    """
    sources = {f"PyPI's {WHEEL}": from_pypi}
    files = _fetch.fetch("watch", SHA256, sources)
    return split(read(files[FILE]), labelled)


def load_teacher_data() -> Data:
    """Returns the same splits with all labels: what the teacher saw."""
    return load_data(labelled=None)


def from_pypi() -> dict[str, bytes]:
    """Returns the file in the wheel."""
    wheel = _sources.pypi_file("seglearn", WHEEL)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return {FILE: archive.read(f"seglearn/data/{FILE}")}


class OnlyArrays(pickle.Unpickler):
    """Makes arrays of a pickle, and refuses all else that it names."""

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin-1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise ValueError(
                "Expected a pickle of arrays only. Received: one that wants "
                f"{module}.{name}"
            )
        return self.allowed[module, name]


def read(content: bytes) -> dict[str, Any]:
    """Returns the recordings in an .npy file that holds one pickled dict."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"Expected an .npy file 1.0. Received: {version}")
    np.lib.format.read_array_header_1_0(file)
    return OnlyArrays(file).load().item()


def split(recordings: dict[str, Any], labelled: tuple[int, ...] | None) -> Data:
    """Returns windows of the recordings, split by who was recorded."""
    parts = {}
    for name, people in dict(
        train=TRAIN, validation=VALIDATION, test=TEST
    ).items():
        x, y = [], []
        for signal, label, person in zip(
            *(recordings[key] for key in ("X", "y", "subject")), strict=True
        ):
            if person not in people:
                continue
            found = windows(signal)
            is_hidden = labelled is not None and person not in labelled
            if name == "train" and is_hidden:
                label = UNLABELLED
            x.append(found)
            y.append(np.full(len(found), label, "int32"))
        parts[name] = np.concatenate(x), np.concatenate(y)
    return Data(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        class_names=tuple(recordings["y_labels"]),
    )


def windows(signal: np.ndarray) -> np.ndarray:
    """Returns the windows of a recording: `(count, WINDOW, 6)`."""
    all_ = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)
    return np.moveaxis(all_[::STEP], -1, 1).astype("float32")


def convolution(filters: int, width: int, strides: int) -> list[layers.Layer]:
    """Convolution in time, batch normalisation and ReLU."""
    return [
        layers.Conv1D(filters, width, strides, "same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
    ]


def build_teacher() -> keras.Model:
    """A network with three convolutions and about 150,000 weights."""
    return keras.Sequential(
        [
            keras.Input((WINDOW, 6)),
            *convolution(64, 7, 1),
            layers.MaxPooling1D(2),
            *convolution(128, 5, 1),
            layers.MaxPooling1D(2),
            *convolution(160, 5, 1),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.5),
            layers.Dense(7),
        ],
        name="teacher",
    )


def build_student() -> keras.Model:
    """A network with two strided convolutions and about 1,500 weights."""
    return keras.Sequential(
        [
            keras.Input((WINDOW, 6)),
            *convolution(12, 7, 3),
            *convolution(16, 5, 2),
            layers.GlobalAveragePooling1D(),
            layers.Dense(7),
        ],
        name="student",
    )
