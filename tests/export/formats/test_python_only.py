# SPDX-License-Identifier: Apache-2.0
"""Models that only work in Python are refused, and told why."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import VerificationError
from keras_kd.export import export

layers = keras.layers


class Calling(layers.Layer):
    """Doubles its input by a call back into Python."""

    def __init__(self, call_back, **kwargs):
        super().__init__(**kwargs)
        self.call_back = call_back

    def call(self, x):
        answer = self.call_back(lambda a: a * 2, [x], tf.float32)
        return tf.ensure_shape(answer, x.shape)

    def compute_output_shape(self, shape):
        return shape


class Reading(keras.Model):
    """Reads a tensor's values, which a graph does not have."""

    def __init__(self, how):
        super().__init__()
        self.dense, self.how = layers.Dense(2), how

    def call(self, x):
        y = self.dense(x)
        if self.how == "numpy":
            return tf.constant(y.numpy())
        return tf.constant(np.asarray(y))


@pytest.mark.parametrize("call_back", [tf.py_function, tf.numpy_function])
@pytest.mark.parametrize("format", ["saved_model", "tflite"])
def test_export_refuses_a_call_back_and_names_its_layer(
    tmp_path, call_back, format
):
    doubling = Calling(call_back, name="doubling")
    model = keras.Sequential([keras.Input((3,)), doubling, layers.Dense(2)])
    with pytest.raises(ValueError, match="calls Python code.*doubling") as e:
        export(model, tmp_path, "m", [format], verbose=False)
    assert not isinstance(e.value, VerificationError)
    assert os.listdir(tmp_path / "m") == []


@pytest.mark.parametrize("how", ["numpy", "asarray"])
def test_export_refuses_a_model_that_reads_values(tmp_path, how):
    model, x = Reading(how), np.ones((2, 3), "float32")
    model(x)
    with pytest.raises(ValueError, match="cannot become a graph"):
        export(model, tmp_path, "m", inputs=x, verbose=False)
    assert os.listdir(tmp_path) == []
