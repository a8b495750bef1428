# SPDX-License-Identifier: Apache-2.0
"""Ten architectures, with 128 examples of what they take."""

from __future__ import annotations

import functools

import keras
import numpy as np

layers = keras.layers
EXAMPLES = 128


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def application(build, side=64):
    """A model of keras.applications with random weights."""
    model = build(
        weights=None,
        input_shape=(side, side, 3),
        classes=10,
        classifier_activation=None,
    )
    x = (255 * generator().random((EXAMPLES, side, side, 3))).astype("float32")
    # Not all alike: patterns of other frequencies and colours.
    steps = np.linspace(0, 1, side, dtype="float32")
    waves = np.sin(np.arange(1, EXAMPLES + 1)[:, None] * steps)[:, :, None]
    x = 0.3 * x + 170 * (waves[..., None] * 0.5 + 0.5)
    return fitted(model, x), x, "logits"


def fitted(model, x):
    """Fits batch normalisations to one batch."""
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    ]
    for layer in norms:
        layer.momentum = 0.0
    model(x[:64], training=True)
    return model


def small_cnn():
    rng = generator()
    patterns = rng.random((10, 14, 14, 1))
    y = rng.integers(0, 10, 2000)
    x = patterns[y] + 0.5 * rng.normal(size=(2000, 14, 14, 1))
    x = x.astype("float32")
    model = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x, y, epochs=10, batch_size=64, verbose=0)
    return model, x[:EXAMPLES], None


def u_net():
    image = keras.Input((64, 64, 3), name="image")
    conv = functools.partial(layers.Conv2D, padding="same", activation="relu")
    top = conv(8, 3)(image)
    middle = conv(16, 3)(layers.MaxPooling2D()(top))
    low = conv(32, 3)(layers.MaxPooling2D()(middle))
    up = layers.Conv2DTranspose(16, 2, strides=2)(low)
    up = conv(16, 3)(layers.Concatenate()([middle, up]))
    up = layers.Conv2DTranspose(8, 2, strides=2)(up)
    up = conv(8, 3)(layers.Concatenate()([top, up]))
    model = keras.Model(image, layers.Conv2D(3, 1)(up))
    return model, generator().random((EXAMPLES, 64, 64, 3), "float32"), None


def text(*middle, length):
    model = keras.Sequential(
        [
            keras.Input((length,), dtype="int32", name="ids"),
            layers.Embedding(500, 32),
            *middle,
            layers.Dense(4),
        ]
    )
    ids = generator().integers(0, 500, (EXAMPLES, 24)).astype("int32")
    return model, ids, None


def text_cnn():
    conv = layers.Conv1D(32, 5, activation="relu")
    return text(conv, layers.GlobalMaxPooling1D(), length=None)


def bigru():
    return text(layers.Bidirectional(layers.GRU(16)), length=24)


def bert_tiny():
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=1000,
        num_layers=2,
        num_heads=2,
        hidden_dim=128,
        intermediate_dim=512,
        max_sequence_length=32,
    )
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=3)
    ids = generator().integers(0, 1000, (EXAMPLES, 32)).astype("int32")
    x = {
        "token_ids": ids,
        "segment_ids": np.zeros_like(ids),
        "padding_mask": np.ones_like(ids),
    }
    return model, x, None


def two_towers():
    towers = []
    for name, many in (("user", 100), ("item", 200)):
        number = keras.Input((1,), dtype="int32", name=name)
        vector = layers.Flatten()(layers.Embedding(many, 32)(number))
        towers.append((number, layers.Dense(16, activation="relu")(vector)))
    (user, of_user), (item, of_item) = towers
    model = keras.Model([user, item], layers.Dot(1)([of_user, of_item]))
    rng = generator()
    x = {
        "user": rng.integers(0, 100, (EXAMPLES, 1)).astype("int32"),
        "item": rng.integers(0, 200, (EXAMPLES, 1)).astype("int32"),
    }
    return model, x, "regression"


def tabular():
    numbers = keras.Input((8,), name="numbers")
    kind = keras.Input((1,), dtype="int32", name="kind")
    scaled = layers.Normalization(mean=2.0, variance=9.0)(numbers)
    parts = [scaled, layers.Flatten()(layers.Embedding(5, 4)(kind))]
    hidden = layers.Dense(32, activation="relu")(layers.Concatenate()(parts))
    model = keras.Model([numbers, kind], layers.Dense(3)(hidden))
    rng = generator()
    x = {
        "numbers": rng.normal(2, 3, (EXAMPLES, 8)).astype("float32"),
        "kind": rng.integers(0, 5, (EXAMPLES, 1)).astype("int32"),
    }
    return model, x, None


def of_applications(name):
    return lambda: application(getattr(keras.applications, name))


# By name: makes `(model, examples, head)`.
MODELS = {
    "small CNN, trained": small_cnn,
    "text CNN, free length": text_cnn,
    "BiGRU": bigru,
    "two-tower recommender": two_towers,
    "two-input tabular": tabular,
    "U-Net": u_net,
    "BERT-tiny (KerasHub)": bert_tiny,
    "MobileNetV3Small": of_applications("MobileNetV3Small"),
    "EfficientNetV2B0": of_applications("EfficientNetV2B0"),
    "ResNet50V2": of_applications("ResNet50V2"),
}
