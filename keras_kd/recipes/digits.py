# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits with few labels: 8x8 scans, no download.

    keras-kd run digits

The data are scikit-learn's 1,797 real scans (UCI Optical Recognition of
Handwritten Digits). The teacher, a CNN, learned from all labels of the
training split. The student, about a hundred times smaller, gets 100 labels;
for the other training scans it has the teacher's answers only.

Expected: the distilled student comes close to the teacher, and well above
the same student trained on the 100 labels alone (the control). With all
labels (`labelled=None`) a student learns these digits without a teacher, and
distillation gains nothing. The figures are in the report that the command
writes. The test split is small: 450 scans, so one scan is 0.2 points.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data

about = dict(
    task="classification, 100 labels",
    data="1,797 scans of digits (UCI, in scikit-learn)",
    licence="CC BY 4.0",
    minutes="3",
    gained="+13.07 points of accuracy (+11.75 to +14.38)",
)
settings = dict(
    temperature=4.0,
    alpha=0.9,  # most training scans have no label to learn from
    batch_size=32,
    teacher_epochs=30,
    teacher_learning_rate=1e-3,
    epochs=60,
    learning_rate=1e-2,
    prune=0.5,
    prune_epochs=20,
    seeds=(0, 1, 2, 3, 4),
)


def load_data(labelled: int | None = 100) -> Data:
    """Returns 1,077 training, 270 validation and 450 test scans.

    The splits are fixed and stratified. Pixels are scaled to `[0, 1]`.

    Args:
        labelled: How many training scans keep their label, drawn evenly over
            the classes; the others are marked unlabelled (-1). `None` keeps
            all labels.
    """
    digits = load_digits()
    x = (digits.images[..., np.newaxis] / 16.0).astype("float32")
    y = digits.target.astype("int32")
    rest, test = split(np.arange(len(y)), y, 450)
    train, validation = split(rest, y, 270)
    y_train = y[train]
    if labelled is not None:
        hidden, _ = split(np.arange(len(train)), y_train, labelled)
        y_train[hidden] = UNLABELLED
    return Data(
        train=(x[train], y_train),
        validation=(x[validation], y[validation]),
        test=(x[test], y[test]),
        class_names=tuple("0123456789"),
    )


def split(
    indices: np.ndarray, labels: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits `count` indices off, evenly over the classes."""
    return train_test_split(
        indices, test_size=count, stratify=labels[indices], random_state=0
    )


def load_teacher_data() -> Data:
    """Returns the same splits with all labels: what the teacher saw."""
    return load_data(labelled=None)


def build_teacher() -> keras.Model:
    """A CNN with three convolutions and about 190,000 weights."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ],
        name="teacher",
    )


def build_student() -> keras.Model:
    """A CNN with two strided convolutions and about 1,900 weights."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name="student",
    )
