# SPDX-License-Identifier: Apache-2.0
"""Taps inside composite layers, and names for what Keras numbered."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.core.taps import ForwardPass
from keras_kd.core.taps import tap

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
X[0, 3:] = 0.0  # masked


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dense = layers.Dense(4, activation="tanh", name="dense")
        self.drop = layers.Dropout(0.5, name="drop")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, mask=None):
        x = self.drop(self.dense(x))
        return x if mask is None else keras.ops.where(mask[..., None], x, 0.0)


class Encoder(layers.Layer):
    """Its blocks are in a list; it has a layer that is called twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.blocks = [Block(name=f"block_{index}") for index in range(2)]
        self.twice = layers.Dense(4, name="twice")
        self.unused = layers.Dense(4, name="unused")

    def build(self, shape):
        for layer in (*self.blocks, self.twice, self.unused):
            layer.build(shape)

    def call(self, x, mask=None):
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.twice(self.twice(x))


def build():
    inputs = keras.Input((5, 4))
    x = layers.Masking(name="masking")(inputs)
    encoder = Encoder()  # numbered by Keras
    x = layers.Dense(2, name="scores")(encoder(x))
    model = keras.Model(inputs, x)
    model.encoder = encoder
    return model


def test_taps_inside_a_composite_layer():
    model = build()
    names = ["encoder/block_0", "encoder/blocks/1/dense", "encoder", "output"]
    taps = tap(model, names)(X)
    assert list(taps) == names
    mask = (X != 0).any(-1)
    first, second = model.encoder.blocks
    expected = np.where(mask[..., None], first.dense(X), 0.0)
    np.testing.assert_allclose(taps["encoder/block_0"], expected, rtol=1e-6)
    np.testing.assert_allclose(
        taps["encoder/blocks/1/dense"], second.dense(expected), rtol=1e-6
    )
    np.testing.assert_array_equal(taps["output"], model(X))
    scores = model.get_layer("scores")(taps["encoder"])
    np.testing.assert_allclose(scores, taps["output"], rtol=1e-6)


def test_composite_layer_runs_once_and_keeps_weights_and_mask():
    model = build()
    forward = ForwardPass(model, ["encoder/blocks/1", "encoder/block_1/drop"])
    prediction, taps = forward(X, training=True)
    drawn = np.asarray(taps["encoder/block_1/drop"])
    kept = (X != 0).any(-1)
    np.testing.assert_array_equal(taps["encoder/blocks/1"][kept], drawn[kept])
    assert (drawn == 0).any()
    np.testing.assert_array_equal(prediction._keras_mask, kept)
    tapped = tap(model, ["encoder/block_0"])
    own = {id(w) for w in model.encoder.blocks[0].weights}
    assert own <= {id(weight) for weight in tapped.weights}
    assert "call" not in vars(model.encoder.blocks[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder/block_2", r"(?s)is no .block_2.*Expected one of .*'block_0'"),
        ("encoder/blocks/2", r"Expected one of \['0', '1'\]"),
        ("encoder/blocks", "must be the path of one layer"),
        ("encoder/twice", "must run once in a pass. Received: 2 calls"),
        ("encoder/unused", "must run once in a pass. Received: 0 calls"),
        ("encodr/block_0", "block_0"),
        ("scores/kernel", "has no layers in it"),
    ],
)
def test_tap_of_a_wrong_path_lists_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        tap(build(), [name])


def test_tap_in_a_loop_is_refused():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.GRU(3, name="gru")(inputs))
    with pytest.raises(ValueError, match="(?s)gru_cell'.*another layer"):
        tap(model, ["gru/gru_cell"])


def test_student_learns_from_blocks_of_an_encoder():
    teacher, student = build(), build()
    distiller = kd.Distiller(
        teacher,
        student,
        alpha=1.0,
        distillation_losses=kd.losses.HiddenStates(
            "encoder/block_1", "encoder/blocks/0", "mse", projector=None
        ),
    )
    distiller.compile(keras.optimizers.SGD(0.1), loss="mse")
    first, second = student.encoder.blocks
    before, after = first.get_weights()[0], second.get_weights()[0]
    distiller.train_on_batch(X, np.zeros((3, 5, 2)))
    assert (first.get_weights()[0] != before).any()
    np.testing.assert_array_equal(second.get_weights()[0], after)


@pytest.mark.slow
def test_blocks_of_kerashub_are_tapped_by_attributes():
    keras_hub = pytest.importorskip("keras_hub")
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")
    vit = keras_hub.models.ViTBackbone((8, 8, 3), 4, 2, 2, 6, 8)
    blocks = [layer for layer in vit.layers if "encoder" in layer.name]
    name = f"{blocks[0].name}/encoder_layers/0"
    taps = tap(vit, [name, "output"])(images)
    assert taps[name].shape == (2, 5, 6)
    np.testing.assert_allclose(taps["output"], vit(images), rtol=1e-6)

    bert = keras_hub.models.BertBackbone(20, 2, 2, 4, 4, max_sequence_length=6)
    task = keras_hub.models.BertTextClassifier(bert, num_classes=3)
    ids = np.ones((2, 6), "int32")
    x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": ids}
    name = "backbone/transformer_layer_1"
    taps = tap(task, [name, "output"])(x)
    np.testing.assert_allclose(taps[name], bert(x)["sequence_output"])
    np.testing.assert_allclose(taps["output"], task(x), rtol=1e-6)
