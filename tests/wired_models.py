# SPDX-License-Identifier: Apache-2.0
"""Wired models: small models with every kind of wiring between channels."""

from __future__ import annotations

import keras
from keras import layers


def conv(x, filters, name, strides=1):
    x = layers.Conv2D(
        filters, 3, strides=strides, padding="same", name=name, use_bias=False
    )(x)
    return layers.ReLU()(layers.BatchNormalization(name=f"{name}_norm")(x))


def classify(x, y):
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, layers.Dense(3, activation="softmax")(y))


def plain_cnn():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, activation="gelu"),
            layers.GlobalMaxPooling2D(keepdims=True),
            layers.Conv2D(5, 1),
            layers.Flatten(),
        ]
    )


def batch_norm_cnn():
    x = keras.Input((8, 8, 3))
    y = conv(conv(x, 6, "first"), 8, "second", strides=2)
    return classify(x, layers.Dropout(0.5)(y))


def residual():
    x = keras.Input((8, 8, 3))
    y = conv(x, 6, "stem")
    z = layers.Conv2D(6, 3, padding="same")(conv(y, 7, "inner"))
    y = layers.ReLU()(layers.Add()([y, z]))
    z = layers.BatchNormalization()(layers.Conv2D(6, 1)(y))
    return classify(x, conv(layers.Subtract()([y, z]), 4, "last"))


def expressions():
    x = keras.Input((8, 8, 3))
    y = conv(x, 6, "stem")
    y = y * 0.5 + conv(y, 6, "inner")
    return classify(x, y)


def dense_block():
    x = keras.Input((8, 8, 3))
    y = conv(x, 4, "stem")
    for number in range(3):
        z = conv(y, 5, f"grow_{number}")
        y = layers.Concatenate()([y, z])
        y = layers.BatchNormalization(name=f"joined_{number}")(y)
    # Joined with the input, whose channels must stay.
    return classify(x, layers.Concatenate()([x, y]))


def concatenate_and_add():
    x = keras.Input((8, 8, 3))
    halves = [conv(x, 4, "left"), conv(x, 6, "right")]
    y = layers.Maximum()([layers.Concatenate()(halves), conv(x, 10, "both")])
    return classify(x, conv(y, 4, "last"))


def depthwise_separable():
    x = keras.Input((8, 8, 3))
    y = conv(x, 4, "stem")
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y)
    y = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(y))
    y = layers.SeparableConv2D(6, 3, depth_multiplier=2)(y)
    return classify(x, layers.LeakyReLU()(y))


def squeeze_and_excite():
    x = keras.Input((8, 8, 3))
    y = conv(x, 6, "stem")
    gate = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(y))
    gate = layers.Conv2D(3, 1, activation="relu")(gate)
    gate = layers.Conv2D(6, 1, activation="sigmoid")(gate)
    where = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(y)
    y = layers.Multiply()([layers.Multiply()([y, gate]), where])
    return classify(x, y)


def flatten_and_dense():
    x = keras.Input((6, 6, 2))
    y = layers.Conv2D(4, 3, activation="relu")(x)
    y = layers.Flatten()(layers.ZeroPadding2D()(y))
    y = layers.BatchNormalization()(y)
    y = layers.Dense(9, activation="relu")(y)
    return keras.Model(x, layers.Dense(3)(y))


def flatten_tied_to_dense():
    x = keras.Input((2, 2, 2))
    y = layers.Reshape((-1,))(layers.Conv2D(4, 1)(x))
    y = layers.Add()([y, layers.Dense(16)(layers.Flatten()(x))])
    return keras.Model(x, layers.Dense(3)(y))


def flatten_by_reshape():
    x = keras.Input((3, 3, 2))
    y = layers.Reshape((36,))(layers.Conv2D(4, 1)(x))
    return keras.Model(x, layers.Dense(3)(y))


def mlp():
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(10, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(6, activation="tanh", use_bias=False),
            layers.Dense(3),
        ]
    )


def sequence():
    x = keras.Input((12,), dtype="int32")
    y = layers.Embedding(20, 6)(x)
    y = layers.Conv1D(8, 3, activation="relu")(y)
    y = layers.UpSampling1D(2)(layers.AveragePooling1D(2)(y))
    y = layers.Conv1DTranspose(4, 3)(y)
    y = layers.SeparableConv1D(5, 3)(layers.Dense(6)(y))
    return keras.Model(x, layers.Dense(2)(layers.GlobalMaxPooling1D()(y)))


def volume():
    x = keras.Input((4, 4, 4, 1))
    y = layers.Conv3D(4, 3, padding="same", activation="relu")(x)
    y = layers.Conv3DTranspose(5, 2, strides=2)(layers.MaxPooling3D()(y))
    return keras.Model(x, layers.Conv3D(2, 1)(layers.Cropping3D(1)(y)))


def two_inputs():
    image, words = keras.Input((6, 6, 2)), keras.Input((5,))
    y = layers.GlobalAveragePooling2D()(conv(image, 6, "image"))
    z = layers.Dense(6, activation="relu")(words)
    y = layers.Concatenate()([layers.Multiply()([y, z]), z])
    return keras.Model([image, words], layers.Dense(3)(y))


def two_outputs():
    x = keras.Input((6, 6, 2), name="image")
    y = conv(x, 6, "shared")
    z = layers.GlobalAveragePooling2D()(conv(y, 5, "deep"))
    # The map is an output itself: its channels stay, and "shared" does not.
    seen = layers.Conv2D(4, 1, name="seen")(y)
    z = layers.Concatenate()([z, layers.GlobalMaxPooling2D()(seen)])
    return keras.Model({"image": x}, {"label": layers.Dense(3)(z), "map": seen})


def shared_layer():
    x = keras.Input((8,))
    tower = layers.Dense(6, activation="relu")
    halves = [layers.Dense(5)(x), layers.Dense(5, activation="relu")(x)]
    y = layers.Concatenate()([tower(half) for half in halves])
    return keras.Model(x, layers.Dense(2)(y))


def nested():
    inner_x = keras.Input((8, 8, 6))
    inner = keras.Model(inner_x, conv(inner_x, 5, "deep"), name="inner")
    stack = keras.Sequential(
        [keras.Input((8, 8, 5)), layers.Conv2D(7, 3), layers.ReLU()],
        name="stack",
    )
    x = keras.Input((8, 8, 3))
    return classify(x, stack(inner(conv(x, 6, "stem"))))


def mobile_net():
    return keras.applications.MobileNetV2(
        (32, 32, 3),
        alpha=0.35,
        weights=None,
        classes=3,
        classifier_activation=None,
    )


def res_net():
    return keras.applications.ResNet50(
        (32, 32, 3), weights=None, classes=3, classifier_activation=None
    )


def dense_net():
    return keras.applications.DenseNet121(
        (32, 32, 3), weights=None, classes=3, classifier_activation=None
    )


def efficient_net():
    return keras.applications.EfficientNetB0(
        input_shape=(32, 32, 3),
        weights=None,
        classes=3,
        classifier_activation=None,
    )


SMALL = (
    plain_cnn,
    batch_norm_cnn,
    residual,
    expressions,
    dense_block,
    concatenate_and_add,
    depthwise_separable,
    squeeze_and_excite,
    flatten_and_dense,
    flatten_tied_to_dense,
    flatten_by_reshape,
    mlp,
    sequence,
    volume,
    two_inputs,
    two_outputs,
    shared_layer,
    nested,
)
REAL = (mobile_net, res_net, dense_net, efficient_net)
