# SPDX-License-Identifier: Apache-2.0
"""Layers of `pytorch_loop.py` one by one: where TensorFlow's kernels differ.

    pip install torch --index-url https://download.pytorch.org/whl/cpu
    taskset -c 0 .venv/bin/python benchmarks/pytorch_kernels.py   # a minute

Forward and back, in a compiled function, on one thread: milliseconds of
processor time, the least of many calls, so that it can be told on a machine
that does other things too. Batch norm also as a distiller trains it.
"""

from __future__ import annotations

import functools
import sys
import time

import keras
import tensorflow as tf
from _timing import FAST
from keras import layers

from keras_kd.core.fused_batch_norm import fused_batch_norm

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    url = "https://download.pytorch.org/whl/cpu"
    print(f"Left out: no PyTorch. pip install torch --index-url {url}")
    sys.exit()

CALLS = 2 if FAST else 40


def least(call) -> float:
    """Returns milliseconds of the processor."""
    seconds = []
    for _ in range(CALLS + 2):  # two to compile and warm up
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return 1e3 * min(seconds[2:])


def in_keras(layer, shape) -> float:
    x = tf.random.normal(shape)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))

    @tf.function(autograph=False)
    def both_ways(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        weights = [w.value for w in model.trainable_weights]
        return tape.gradient(y, [x, *weights], tf.ones_like(y))

    return least(lambda: both_ways(x))


def fused(layer, shape) -> float:
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    with fused_batch_norm(model):
        return in_keras(layer, shape)


def in_torch(module, shape) -> float:
    if len(shape) == 4:
        shape = (shape[0], shape[3], shape[1], shape[2])
    x = torch.randn(shape, requires_grad=True)

    def both_ways():
        y = module(x)
        y.backward(torch.ones_like(y))

    return least(both_ways)


class SelfAttention(nn.MultiheadAttention):
    """Attention of a sequence to itself."""

    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


def self_attention(heads: int, width: int):
    attention = layers.MultiHeadAttention(heads, width // heads)
    return lambda x: attention(x, x)


def rows():
    """Yields name, shape, and what makes each layer."""
    for side, channels in ((14, 16), (7, 48)):
        shape = (128, side, side, channels)
        norms = layers.BatchNormalization(), nn.BatchNorm2d(channels)
        yield "batch norm", shape, *norms
        depthwise = layers.DepthwiseConv2D(3, 1, "same", use_bias=False)
        twin = nn.Conv2d(
            channels, channels, 3, 1, 1, groups=channels, bias=False
        )
        yield "depthwise 3x3", shape, depthwise, twin
        yield (
            "pointwise to 48",
            shape,
            layers.Conv2D(48, 1, use_bias=False),
            nn.Conv2d(channels, 48, 1, bias=False),
        )
    for width in (32, 128):
        shape = (128, 32, width)
        norms = layers.LayerNormalization(), nn.LayerNorm(width)
        yield "layer norm", shape, *norms
        heads = width // 32 + (width == 32)
        yield (
            f"attention, {heads} heads",
            shape,
            self_attention(heads, width),
            SelfAttention(width, heads, batch_first=True),
        )
        yield (
            "dense to 4x",
            shape,
            layers.Dense(4 * width),
            nn.Linear(width, 4 * width),
        )
        wide = (128, 32, 4 * width)
        yield "gelu", wide, layers.Activation("gelu"), nn.GELU()
        tanh = functools.partial(keras.activations.gelu, approximate=True)
        yield (
            "gelu, approximate",
            wide,
            layers.Activation(tanh),
            nn.GELU("tanh"),
        )


def main() -> None:
    torch.set_num_threads(1)
    print("| layer | input | Keras, ms | as distilled, ms | PyTorch, ms |")
    print("|---|---|---|---|---|")
    for name, shape, layer, module in rows():
        times = [in_keras(layer, shape), in_torch(module, shape)]
        ours = "" if name != "batch norm" else f"{fused(layer, shape):.2f}"
        size = "x".join(map(str, shape))
        print(
            f"| {name} | {size} | {times[0]:.2f} | {ours} | {times[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
