# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST with few labels: 3,000 labelled, 57,000 unlabelled images.

    keras-kd run fashion_mnist

The teacher stands for a model that was trained earlier, where labels were at
hand: it learned from the labels of 55,000 training images. The student gets
3,000 labels; for the other 57,000 images it has the teacher's answers only.

The validation split is 5,000 of the 60,000 training images. The student sees
them, but without their labels, as it does any unlabelled image; the teacher
never sees them. Their labels serve choices (early stopping, search) and
nothing is trained on them. The test split is the official one, 10,000 images.

Expected: the distilled student stands well above the same student trained on
the 3,000 labels alone (the control), and its int8 file, beside the teacher's
in LiteRT, takes a twentieth of the time and a fiftieth of the bytes for at
most 1.5 points of accuracy. The figures are in the report that the command
writes.

Data: Zalando Research, MIT licence, https://arxiv.org/abs/1708.07747
"""

from __future__ import annotations

import gzip

import keras
import numpy as np
from keras import layers

from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

about = dict(
    task="classification, 3,000 labels",
    data="Fashion-MNIST, 70,000 images",
    licence="MIT",
    minutes="27",
    gained="+7.70 points of accuracy (+7.10 to +8.29)",
)
settings = dict(
    temperature=4.0,
    alpha=0.95,  # most training images have no label to learn from
    batch_size=128,
    teacher_epochs=10,
    teacher_learning_rate=2e-3,
    epochs=24,
    learning_rate=5e-3,
    # A student this small has no weights to spare, and int8 files of dense
    # kernels get no smaller by zeros.
    prune=None,
    seeds=(0, 1, 2),
    quantize=(None, "int8"),  # None is float32
)

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
VALIDATION = 5000
# Of the decompressed files: Debian's .gz differ from the official ones in
# their header, the content does not.
SHA256 = {
    "train-images-idx3-ubyte": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}
KERAS_HOST = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
DEBIAN_PACKAGE = "dataset-fashion-mnist"


def load_data(labelled: int | None = 3000) -> Data:
    """Returns 60,000 training, 5,000 validation and 10,000 test images.

    Pixels are scaled to `[0, 1]`; shape `(count, 28, 28, 1)`, float32.

    Args:
        labelled: How many training images keep their label, the same number
            of every class; all others, the validation images among them,
            are in the training split without a label (-1). `None`: the
            training split is the 55,000 images outside the validation
            split, all with their label.

    Raises:
        FileNotFoundError: If the images can be had from no source.
    """
    x, y, x_test, y_test = download()
    order = np.random.default_rng(0).permutation(len(y))
    validation, train = order[:VALIDATION], order[VALIDATION:]
    y_train = y.copy()
    if labelled is not None:
        y_train[:] = UNLABELLED
        kept = first_of_each_class(train, y, labelled)
        y_train[kept] = y[kept]
        train = order
    return Data(
        train=(x[train], y_train[train]),
        validation=(x[validation], y[validation]),
        test=(x_test, y_test),
        class_names=CLASS_NAMES,
    )


def load_teacher_data() -> Data:
    """Returns the splits the teacher learned from: 55,000 labels."""
    return load_data(labelled=None)


def first_of_each_class(
    indices: np.ndarray, labels: np.ndarray, count: int
) -> np.ndarray:
    """Returns the first `count` of `indices`, as many of every class."""
    classes = len(CLASS_NAMES)
    most = min(np.bincount(labels[indices], minlength=classes)) * classes
    if count % classes or not 0 < count <= most:
        raise ValueError(
            "`labelled` must be None or a positive multiple of the "
            f"{classes} classes, at most {most}. Received: {count}"
        )
    return np.concatenate(
        [indices[labels[indices] == c][: count // classes] for c in range(10)]
    )


def download() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the official `(x, y, x_test, y_test)`, checked and scaled."""
    sources = {
        "the files of keras.datasets.fashion_mnist": from_keras,
        f"the Debian package {DEBIAN_PACKAGE}": from_debian,
    }
    files = _fetch.fetch("fashion_mnist", SHA256, sources)
    x, y, x_test, y_test = (_fetch.parse_idx(files[name]) for name in SHA256)
    return scaled(x), y.astype("int32"), scaled(x_test), y_test.astype("int32")


def scaled(images: np.ndarray) -> np.ndarray:
    """Returns pixels in `[0, 1]` with a channel axis."""
    return images[..., np.newaxis].astype("float32") / 255.0


def from_keras() -> dict[str, bytes]:
    """Returns the four idx files, from where Keras' own loader has them."""
    return {
        name: gzip.decompress(_sources.download(f"{KERAS_HOST}{name}.gz"))
        for name in SHA256
    }


def from_debian() -> dict[str, bytes]:
    """Returns the four idx files of the Debian package."""
    with _sources.debian_package(DEBIAN_PACKAGE) as folder:
        folder = folder / "usr/share/datasets/fashion-mnist"
        return {
            name: gzip.decompress((folder / f"{name}.gz").read_bytes())
            for name in SHA256
        }


def convolution(
    filters: int, strides: int = 1, padding: str = "same"
) -> list[layers.Layer]:
    """3x3 convolution, batch normalisation and ReLU."""
    return [
        layers.Conv2D(filters, 3, strides, padding=padding, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
    ]


def build_teacher() -> keras.Model:
    """A CNN with three convolutions and about 280,000 weights."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *convolution(32),
            layers.MaxPooling2D(),
            *convolution(64),
            layers.MaxPooling2D(),
            *convolution(128),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(160, activation="relu"),
            layers.Dropout(0.4),
            layers.Dense(10),
        ],
        name="teacher",
    )


def build_student() -> keras.Model:
    """A CNN with three strided convolutions and about 16,000 weights.

    Strides from the first layer on keep the arithmetic small; no padding in
    the last leaves 3x3 positions, so that the weights are in its kernel and
    not in the Dense layer.
    """
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *convolution(16, strides=2),
            *convolution(32, strides=2),
            *convolution(28, strides=2, padding="valid"),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name="student",
    )
