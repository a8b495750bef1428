# SPDX-License-Identifier: Apache-2.0
"""A Scalar is a float for people and a variable for compiled steps."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from keras_kd.core.scalars import Scalar


class Holder:
    share = Scalar(minimum=0.0, maximum=1.0)
    temperature = Scalar(minimum=0.0, open_minimum=True)

    def __init__(self, share=0.1):
        self.share = share


def test_scalar_reads_as_the_exact_float():
    holder = Holder(share=0.1)
    assert holder.share == 0.1
    assert isinstance(holder.share, float)


def test_scalar_is_not_set_before_it_is_set():
    assert not hasattr(Holder(), "temperature")
    assert isinstance(Holder.share, Scalar)


def test_instances_do_not_share():
    first, second = Holder(0.2), Holder(0.3)
    first.share = 0.4
    assert (first.share, second.share) == (0.4, 0.3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_assigning_reaches_a_compiled_step_without_retracing(jit_compile):
    holder, traces = Holder(0.25), []

    @tf.function(jit_compile=jit_compile)
    def step(x):
        traces.append(1)
        return x * Scalar.tensor(holder, "share")

    assert float(step(tf.constant(4.0))) == 1.0
    holder.share = 0.5
    assert float(step(tf.constant(4.0))) == 2.0
    assert len(traces) == 1


def test_scalar_of_a_layer_is_no_weight():
    class Layer(keras.layers.Layer):
        share = Scalar()

    layer = Layer()
    layer.share = 0.5
    layer.share = 0.75
    assert layer.share == 0.75
    assert layer.variables == []


def test_scalar_stays_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert Scalar.tensor(Holder(), "share").dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("share", -0.01),
        ("share", 1.01),
        ("share", float("nan")),
        ("share", "much"),
        ("share", None),
        ("temperature", 0.0),
        ("temperature", float("inf")),
    ],
)
def test_scalar_refuses_values_outside_its_range(name, value):
    holder = Holder(0.5)
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number"):
        setattr(holder, name, value)
    assert holder.share == 0.5


def test_scalar_says_its_range():
    with pytest.raises(ValueError, match=r"in \[0, 1\]. Received: share=2"):
        Holder(2)
    with pytest.raises(ValueError, match=r"in \(0, inf\)"):
        Holder().temperature = 0
