# SPDX-License-Identifier: Apache-2.0
"""Teachers and students whose time is taken, each with inputs for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from keras_kd.recipes import fashion_mnist

CLASSES = 10
WORDS, LENGTH = 2000, 32


@dataclasses.dataclass(frozen=True)
class Pair:
    """A teacher, a student and what they take.

    Args:
        name: Its name in tables.
        build_teacher: Returns the teacher; its output are logits.
        build_student: Returns the student, likewise.
        inputs: Returns that many random inputs, no two of them alike.
    """

    name: str
    build_teacher: Callable[[], keras.Model]
    build_student: Callable[[], keras.Model]
    inputs: Callable[[int], np.ndarray]


def random_images(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(size=(count, 28, 28, 1)).astype("float32")


def random_words(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, WORDS, (count, LENGTH)).astype("int32")


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns training images of Fashion-MNIST and their labels."""
    x, y, *_ = fashion_mnist.download()
    return x[:count], y[:count]


def colour_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same as 64x64 pixels in three channels."""
    x, y = images(count)
    x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for axis, times in ((1, 2), (2, 2), (3, 3)):
        x = np.repeat(x, times, axis)
    return x, y


def settling(model: keras.Model) -> keras.Model:
    """Has the averages of batch norm settle in a short training."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9
    return model


def depthwise_student(shape=(28, 28, 1), strides: int = 2) -> keras.Model:
    """A CNN of depthwise separable convolutions, about 6,000 weights.

    Args:
        shape: Of an image.
        strides: Of the first convolution.
    """
    blocks = []
    for filters, step in ((32, 2), (48, 1), (48, 2)):
        blocks += [
            layers.DepthwiseConv2D(3, step, padding="same", use_bias=False),
            layers.Conv2D(filters, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    model = keras.Sequential(
        [
            keras.Input(shape),
            *fashion_mnist.convolution(16, strides),
            *blocks,
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES),
        ],
        name="depthwise_student",
    )
    return settling(model)


def small_student() -> keras.Model:
    """A CNN of three strided convolutions, about 6,000 weights.

    Without batch norm, as in most tutorials: a step is so short that a live
    teacher makes it about four times as long.
    """
    model = [keras.Input((28, 28, 1))]
    for filters in (8, 16, 32):
        model.append(
            layers.Conv2D(
                filters, 3, strides=2, padding="same", activation="relu"
            )
        )
    model += [layers.GlobalAveragePooling2D(), layers.Dense(CLASSES)]
    return keras.Sequential(model, name="small_student")


def heavy_teacher() -> keras.Model:
    """ResNet-50 on 64x64 colour images."""
    model = keras.applications.ResNet50(
        weights=None,
        input_shape=(64, 64, 3),
        classes=CLASSES,
        classifier_activation=None,
    )
    return settling(model)


def heavy_student() -> keras.Model:
    return depthwise_student((64, 64, 3), strides=4)


def compiled(model: keras.Model, rate: float = 3e-3) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


@dataclasses.dataclass(frozen=True)
class RealPair:
    """A teacher and a student of Fashion-MNIST.

    Args:
        title: What tables call it.
        build_teacher: Returns the teacher; its output are logits.
        build_student: Returns the student, likewise.
        images: Returns that many training images and their labels.
    """

    title: str
    build_teacher: Callable[[], keras.Model]
    build_student: Callable[[], keras.Model]
    images: Callable[[int], tuple[np.ndarray, np.ndarray]]

    def trained_teacher(
        self, x: np.ndarray, y: np.ndarray, epochs: int = 1
    ) -> keras.Model:
        """Returns a teacher that learned from these images.

        One that is hardly trained decides by narrow margins, so that int8
        arithmetic would decide otherwise more often than with a real one.
        """
        steps = epochs * -(-len(x) // 64)
        rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
        teacher = compiled(self.build_teacher(), rate)
        teacher.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
        return teacher


REAL_PAIRS = {
    "small": RealPair(
        "CNN to small CNN, 28x28",
        fashion_mnist.build_teacher,
        small_student,
        images,
    ),
    "depthwise": RealPair(
        "CNN to depthwise CNN, 28x28",
        fashion_mnist.build_teacher,
        depthwise_student,
        images,
    ),
    "heavy": RealPair(
        "ResNet-50 to depthwise CNN, 64x64 in colour",
        heavy_teacher,
        heavy_student,
        colour_images,
    ),
}


def mlp(*units: int) -> keras.Model:
    """Dense layers of these sizes on images, with a class on top."""
    hidden = [layers.Dense(count, "relu") for count in units]
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            *hidden,
            layers.Dense(CLASSES),
        ]
    )


@keras.saving.register_keras_serializable(package="benchmarks")
class Positions(layers.Layer):
    """Adds a learned vector for each place in the sequence."""

    def build(self, input_shape):
        self.vectors = self.add_weight(shape=input_shape[1:], name="vectors")

    def call(self, x):
        return x + self.vectors


def transformer(width: int, heads: int, depth: int) -> keras.Model:
    """An encoder over word ids `(batch, 32)` with a class on top."""
    words = keras.Input((LENGTH,), dtype="int32")
    x = Positions()(layers.Embedding(WORDS, width)(words))
    for _ in range(depth):
        normal = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(heads, width // heads)
        x = x + attention(normal, normal)
        hidden = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(width)(hidden)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(words, layers.Dense(CLASSES)(x))


PAIRS = (
    Pair(
        "small CNN",
        fashion_mnist.build_teacher,
        fashion_mnist.build_student,
        random_images,
    ),
    Pair(
        "depthwise CNN",
        fashion_mnist.build_teacher,
        depthwise_student,
        random_images,
    ),
    Pair(
        "transformer",
        lambda: transformer(width=128, heads=4, depth=2),
        lambda: transformer(width=32, heads=2, depth=2),
        random_words,
    ),
)
