# SPDX-License-Identifier: Apache-2.0
"""What a first step needs is made before it, so that it is traced once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.distillers.step_variables import make_step_variables

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
CLASSES = np.arange(8) % 3
SIZES = X.sum(axis=1, keepdims=True)


def two_outputs():
    x = keras.Input((4,))
    shape = keras.layers.Dense(3, name="shape")(x)
    size = keras.layers.Dense(1, name="size")(x)
    return keras.Model(x, {"shape": shape, "size": size})


def one_output():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def classification(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def counted(model, monkeypatch):
    """Counts how often Python runs a model's step."""
    calls, step = [], model.train_step
    monkeypatch.setattr(
        model, "train_step", lambda data: calls.append(0) or step(data)
    )
    return calls


@pytest.fixture(params=["arrays", "tf.data, two outputs", "plain", "weights"])
def training(request):
    """A compiled model and the arguments of its `fit`."""
    if request.param == "plain":
        model = one_output()
        arguments = {"x": X, "y": CLASSES}
        metrics = ["accuracy"]
        loss = classification()
    elif request.param == "tf.data, two outputs":
        student = two_outputs()
        losses = {
            "shape": kd.losses.SoftTargets(),
            "size": kd.losses.Regression(),
        }
        model = kd.Distiller(two_outputs(), student, distillation_losses=losses)
        y = {"shape": CLASSES, "size": SIZES}
        arguments = {"x": tf.data.Dataset.from_tensor_slices((X, y)).batch(4)}
        metrics = {"shape": ["accuracy"], "size": ["mae"]}
        loss = {"shape": classification(), "size": "mse"}
    else:
        model = kd.Distiller(one_output(), one_output())
        arguments = {"x": X, "y": CLASSES}
        metrics = ["accuracy", keras.metrics.SparseCategoricalCrossentropy()]
        loss = classification()
        if request.param == "weights":
            arguments["sample_weight"] = np.ones(8, "float32")
    weighted = ["accuracy"] if "sample_weight" in arguments else None
    model.compile(
        keras.optimizers.SGD(momentum=0.9),
        loss,
        metrics=metrics,
        weighted_metrics=weighted,
        jit_compile=False,
    )
    return model, arguments


def test_step_is_traced_once(training, monkeypatch):
    model, arguments = training
    if not isinstance(model, kd.Distiller):
        make_step_variables(model, arguments["x"], arguments["y"])
    calls = counted(model, monkeypatch)
    history = model.fit(**arguments, verbose=0).history
    assert len(calls) == 1
    assert any("accuracy" in name for name in history)
