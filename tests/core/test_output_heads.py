# SPDX-License-Identifier: Apache-2.0
"""What a model ends in is read off its graph, and turned into logits."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras import ops

import reference
from keras_kd.core import output_heads
from keras_kd.losses import soft_targets

RNG = np.random.default_rng(0)


def functional(end, shape=(6,)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, end(layers.Dense(3, name="scores")(inputs)))


def sequential(*end):
    return keras.Sequential([keras.Input((6,)), layers.Dense(3), *end])


def float32_end():
    """Keras' advice for mixed precision: a float32 activation at the end."""
    return functional(layers.Activation("softmax", dtype="float32"))


def nested(activation):
    inner = sequential(layers.Activation(activation))
    return keras.Sequential([keras.Input((6,)), layers.Dense(6), inner])


def shared_softmax():
    """One layer, used after different ones: its node tells them apart."""
    identity = layers.Identity()
    inputs = keras.Input((6,))
    identity(layers.Dense(3, activation="softmax")(inputs))
    return keras.Model(inputs, identity(layers.Dense(3)(inputs)))


HEADS = {
    "dense softmax": (lambda: dense("softmax"), "softmax"),
    "dense sigmoid": (lambda: dense("sigmoid"), "sigmoid"),
    "dense linear": (lambda: dense(None), "linear"),
    "dense relu": (lambda: dense("relu"), None),
    "dense log softmax": (lambda: dense("log_softmax"), "linear"),
    "activation layer": (
        lambda: functional(layers.Activation("softmax")),
        "softmax",
    ),
    "activation layer, sigmoid": (
        lambda: functional(layers.Activation(keras.activations.sigmoid)),
        "sigmoid",
    ),
    "softmax layer": (lambda: functional(layers.Softmax()), "softmax"),
    "ops.softmax": (lambda: functional(ops.softmax), "softmax"),
    "ops.sigmoid": (lambda: functional(ops.sigmoid), "sigmoid"),
    "ops.nn.softmax": (lambda: functional(ops.nn.softmax), "softmax"),
    "float32 end": (float32_end, "softmax"),
    "float32 identity": (
        lambda: sequential(
            layers.Softmax(), layers.Activation("linear", dtype="float32")
        ),
        "softmax",
    ),
    "sequential": (lambda: sequential(layers.Softmax()), "softmax"),
    "sequential linear": (lambda: sequential(), "linear"),
    "nested": (lambda: nested("softmax"), "softmax"),
    "nested linear": (lambda: nested("linear"), "linear"),
    "nested twice": (
        lambda: keras.Sequential([keras.Input((6,)), nested("sigmoid")]),
        "sigmoid",
    ),
    "time distributed": (
        lambda: keras.Sequential(
            [
                keras.Input((4, 6)),
                layers.TimeDistributed(layers.Dense(3, activation="softmax")),
            ]
        ),
        "softmax",
    ),
    "reshape after softmax": (
        lambda: sequential(layers.Softmax(), layers.Reshape((3, 1))),
        "softmax",
    ),
    "dropout between": (
        lambda: sequential(layers.Softmax(), layers.Identity()),
        "softmax",
    ),
    "tf.nn.softmax": (lambda: dense(tf.nn.softmax), "softmax"),
    "tf.nn.sigmoid": (lambda: dense(tf.nn.sigmoid), "sigmoid"),
    "activation is ops.softmax": (lambda: dense(ops.softmax), "softmax"),
    "activation is a layer": (lambda: dense(layers.Softmax()), "softmax"),
    "time distributed model": (
        lambda: keras.Sequential(
            [keras.Input((4, 6)), layers.TimeDistributed(nested("softmax"))]
        ),
        "softmax",
    ),
    "lambda": (lambda: functional(layers.Lambda(ops.softmax)), None),
    "dense lambda": (lambda: dense(lambda x: ops.softmax(x)), None),
    "gated": (
        lambda: keras.Sequential(
            [keras.Input((4, 6)), layers.LSTM(3, activation="sigmoid")]
        ),
        None,
    ),
    "average of softmaxes": (lambda: merged(layers.Average()), "softmax"),
    "average of logits": (lambda: merged(layers.Average(), None), "linear"),
    "average of both": (
        lambda: merged(layers.Average(), "softmax", "linear"),
        None,
    ),
    "sum of softmaxes": (lambda: merged(layers.Add()), None),
    "sum of logits": (lambda: merged(layers.Add(), None), "linear"),
    "concatenated": (lambda: merged(layers.Concatenate()), None),
    "product": (lambda: merged(layers.Multiply(), None), None),
    "clip": (lambda: functional(lambda x: ops.clip(x, 0.0, 1.0)), None),
    "by a number": (lambda: functional(lambda x: x / 2.0), "linear"),
    "softmax by a number": (
        lambda: functional(lambda x: ops.softmax(x) * 2),
        None,
    ),
    "softmax over positions": (
        lambda: functional(layers.Softmax(axis=1), (4, 6)),
        None,
    ),
    "pooled logits": (
        lambda: functional(layers.GlobalAveragePooling1D(), (4, 6)),
        "linear",
    ),
    "a layer of one's own": (lambda: functional(OwnLayer()), None),
    "dense after softmax": (
        lambda: sequential(layers.Softmax(), layers.Dense(2)),
        "linear",
    ),
    "shared layer": (shared_softmax, "linear"),
}


def merged(merge, *activations):
    activations = (*activations, *activations)[:2] or ("softmax", "softmax")
    inputs = keras.Input((6,))
    parts = [layers.Dense(3, activation=a)(inputs) for a in activations]
    return keras.Model(inputs, merge(parts))


@keras.saving.register_keras_serializable(package="tests")
class OwnLayer(layers.Layer):
    """Has an attribute that says nothing about its output."""

    activation = keras.activations.linear

    def call(self, x):
        return ops.softmax(x)


def dense(activation):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, activation=activation)]
    )


@pytest.mark.parametrize("name", HEADS)
def test_activation_is_read_off_the_graph(name):
    build, expected = HEADS[name]
    assert output_heads.activation_of(build()) == expected


SAVEABLE = [n for n in HEADS if "lambda" not in n and "tf.nn" not in n]


@pytest.mark.parametrize("name", SAVEABLE)
def test_activation_survives_saving(name, tmp_path):
    build, expected = HEADS[name]
    build().save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert output_heads.activation_of(model) == expected


def test_activation_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert output_heads.activation_of(float32_end()) == "softmax"
    finally:
        keras.config.set_dtype_policy("float32")


def test_activation_of_one_of_several_outputs():
    inputs = keras.Input((6,))
    outputs = {
        "kind": layers.Dense(3, activation="softmax")(inputs),
        "age": layers.Dense(1)(inputs),
    }
    model = keras.Model(inputs, outputs)
    assert output_heads.activation_of(model, "kind") == "softmax"
    assert output_heads.activation_of(model, "age") == "linear"
    assert output_heads.activation_of(model) is None


def test_activation_of_an_output_of_a_nested_model():
    """Its outputs may share a layer's name; they are told by position."""
    inputs = keras.Input((6,))
    scores = layers.Dense(3)(inputs)
    ends = scores, {"a": layers.Softmax()(scores), "b": scores}
    outer = keras.Input((6,))
    _, named = keras.Model(inputs, ends)(outer)
    heads = {n: output_heads.activation_of_tensor(t) for n, t in named.items()}
    assert heads == {"a": "softmax", "b": "linear"}


def test_activation_of_a_subclassed_model_is_unknown():
    class Subclassed(keras.Model):
        def call(self, x):
            return ops.softmax(x)

    assert output_heads.activation_of(Subclassed()) is None


def centred(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    "build",
    [lambda: dense("softmax"), lambda: sequential(layers.Softmax())],
    ids=["dense", "layer"],
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_softmax_heads_give_their_logits_back(build, scale):
    """Up to a constant per row, also where probabilities are 0 and 1."""
    model = build()
    x = scale * RNG.normal(size=(8, 6)).astype("float32")
    logits = x @ model.layers[0].kernel.numpy()
    probabilities = model(x)
    assert np.any(np.asarray(probabilities) == 0.0) == (scale > 1.0)
    received = output_heads.to_logits(probabilities, "softmax")
    np.testing.assert_allclose(
        centred(np.asarray(received)),
        centred(logits),
        rtol=1e-4,
        atol=1e-5 * scale,
    )


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_sigmoid_heads_give_their_logits_back(scale):
    model = dense("sigmoid")
    x = scale * RNG.normal(size=(8, 6)).astype("float32")
    logits = x @ model.layers[0].kernel.numpy()
    received = output_heads.to_logits(model(x), "sigmoid")
    np.testing.assert_allclose(received, logits, rtol=1e-4, atol=1e-5 * scale)


def test_to_logits_of_plain_probabilities():
    logits = RNG.normal(size=(8, 5))
    p = reference.softmax(logits).astype("float32")
    received = output_heads.to_logits(ops.convert_to_tensor(p), "softmax")
    np.testing.assert_allclose(
        received, reference.log_softmax(logits), rtol=1e-4, atol=1e-5
    )
    q = reference.sigmoid(logits).astype("float32")
    received = output_heads.to_logits(ops.convert_to_tensor(q), "sigmoid")
    np.testing.assert_allclose(received, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_to_logits_of_certainty_is_finite(activation):
    certain = ops.convert_to_tensor([[0.0, 1.0, 0.0]])
    assert np.all(np.isfinite(output_heads.to_logits(certain, activation)))


@pytest.mark.parametrize("activation", ["linear", None])
def test_to_logits_leaves_logits(activation):
    logits = RNG.normal(size=(4, 3)).astype("float16")
    received = output_heads.to_logits(ops.convert_to_tensor(logits), activation)
    assert received.dtype == "float32"
    np.testing.assert_array_equal(received, logits.astype("float32"))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
@pytest.mark.parametrize("units", [1, 4])
def test_binary_units_give_the_bernoulli_divergence(temperature, units):
    teacher, student = RNG.normal(size=(2, 8, units)).astype("float32") * 3
    # Logarithms near 1, each within half a float32 step, times T^2.
    step = temperature**2 * float(np.finfo("float32").eps)
    pair = output_heads.comparable(
        ops.array(teacher), ops.array(student), binary=True
    )
    assert [tuple(p.shape) for p in pair] == [(8, units, 2)] * 2
    np.testing.assert_allclose(
        soft_targets(*pair, temperature),
        reference.bernoulli_targets(
            teacher.astype("float64"), student.astype("float64"), temperature
        ),
        rtol=1e-3,
        atol=max(1e-5, step),
    )


def test_single_units_are_binary_without_being_told():
    teacher, student = ops.ones((4, 1)), ops.zeros((4, 1))
    pair = output_heads.comparable(teacher, student)
    assert [tuple(p.shape) for p in pair] == [(4, 1, 2)] * 2


@pytest.mark.parametrize("two_classes", ["teacher", "student"])
def test_two_classes_meet_one_unit(two_classes):
    """Softmax over (a, b) is a sigmoid of b - a."""
    two = RNG.normal(size=(8, 2)).astype("float32")
    one = RNG.normal(size=(8, 1)).astype("float32")
    margin = two[:, 1:] - two[:, :1]
    pair, expected = (two, one), (margin, one)
    if two_classes == "student":
        pair, expected = pair[::-1], expected[::-1]
    received = output_heads.comparable(*map(ops.array, pair))
    assert [tuple(p.shape) for p in received] == [(8, 2)] * 2
    np.testing.assert_allclose(
        soft_targets(*received, 2.0),
        reference.bernoulli_targets(*expected, 2.0)[:, 0],
        rtol=1e-3,
        atol=1e-5,
    )


def test_two_classes_meet_one_unit_that_is_a_sigmoid():
    """A softmax teacher of two classes, a one-unit sigmoid student."""
    two = RNG.normal(size=(8, 2)).astype("float32")
    one = RNG.normal(size=(8, 1)).astype("float32")
    received = output_heads.comparable(
        ops.array(two), ops.array(one), binary=True
    )
    assert [tuple(p.shape) for p in received] == [(8, 2)] * 2


def test_classes_are_left_alone():
    teacher, student = ops.ones((4, 3)), ops.zeros((4, 3))
    pair = output_heads.comparable(teacher, student)
    assert pair[0] is teacher and pair[1] is student


def test_binary_classes_are_indexed_by_labels():
    logits = ops.array([[-9.0], [9.0]])
    classes = np.argmax(output_heads.binary_to_classes(logits), axis=-1)
    np.testing.assert_array_equal(classes, [[0], [1]])
