# SPDX-License-Identifier: Apache-2.0
"""Rules: how each kind of layer carries channels from input to output."""

from __future__ import annotations

import math
import numbers

import keras
import numpy as np
from keras import layers

from keras_kd.pruning.structured import kinds
from keras_kd.pruning.structured.channels import ChannelGraph


class Unsupported(Exception):
    """A layer does with its channels what no rule here describes."""


def carry(graph: ChannelGraph, operation, path, inputs, node) -> np.ndarray:
    """Returns the channels of what a layer, or `x + y`, gives.

    Its path in the model, the channels of each of its inputs and its node
    are given; the graph learns what it says about its channels.

    Raises:
        Unsupported: If no rule describes the layer; the text says why.
    """
    rule = _RULES.get(type(operation))
    if rule is None and type(operation).__module__ == "keras.src.ops.numpy":
        rule = _operation
    if rule is None:
        raise Unsupported(f"{type(operation).__name__} layers are not handled")
    _check(operation)
    if len(node.outputs) != 1 or any(ids is None for ids in inputs):
        raise Unsupported("it has no fixed number of channels")
    shapes = [tuple(tensor.shape) for tensor in tensors_of(node)]
    shape = tuple(node.outputs[0].shape)
    ids = rule(graph, operation, path, inputs, shapes, shape, node)
    if len(ids) != shape[-1]:
        raise Unsupported("its channels are not on its last axis")
    # Its input can be cut all the same: softmax comes after a product. And
    # where its channels are the model's outputs they stay anyway.
    mixing = _activation(operation)
    if mixing:
        graph.block(ids, path, mixing)
    return ids


def tensors_of(node) -> list:
    """Returns the input tensors of a call, one for each time it is given."""
    return [v for v in _arguments(node) if isinstance(v, keras.KerasTensor)]


def _arguments(node):
    return keras.tree.flatten((node.arguments.args, node.arguments.kwargs))


def _check(layer):
    if getattr(layer, "data_format", None) == "channels_first":
        raise ValueError(
            "Channels can be removed where they are on the last axis. "
            f"Received: layer '{layer.name}' with data_format="
            "'channels_first'. Rebuild the model with 'channels_last'."
        )
    if getattr(layer, "groups", 1) != 1:
        raise Unsupported("grouped convolutions are not handled")
    if getattr(layer, "lora_enabled", False):
        raise Unsupported("it is adapted by LoRA")
    if getattr(layer, "quantization_mode", None):
        raise Unsupported("it is quantized")
    noise_shape = getattr(layer, "noise_shape", None)
    if noise_shape is not None and noise_shape[-1] not in (None, 1):
        raise Unsupported("its noise_shape counts the channels")


def _activation(layer):
    """Returns why a layer's activation mixes channels, or `None`."""
    activation = getattr(layer, "activation", None)
    if isinstance(layer, layers.Softmax):
        activation = keras.activations.softmax
    if activation is None or activation in kinds.ELEMENTWISE:
        return None
    name = getattr(activation, "__name__", type(activation).__name__)
    return f"activation {name} is not known to work channel by channel"


def _produce(graph, layer, path, inputs, shapes, shape, node):
    ids = graph.fresh(shape[-1])
    if isinstance(layer, layers.Embedding):
        graph.block(inputs[0], path, "it looks its input up")
    return ids


def _follow(graph, layer, path, inputs, shapes, shape, node):
    axis = getattr(layer, "axis", -1)
    if axis not in (-1, len(shape) - 1):
        raise Unsupported("it normalises another axis than the last")
    return inputs[0]


def _depthwise(graph, layer, path, inputs, shapes, shape, node):
    return np.repeat(inputs[0], layer.depth_multiplier)


def _merge(graph, layer, path, inputs, shapes, shape, node):
    if getattr(layer, "axis", None) in (-1, len(shape) - 1):
        return np.concatenate(inputs)  # a Concatenate of channels
    if len({len(given) for given in shapes}) != 1:
        raise Unsupported("its inputs differ in rank")
    full = [ids for ids in inputs if len(ids) == shape[-1]]
    for ids in inputs:
        if len(ids) == shape[-1]:
            graph.unite(full[0], ids)
        else:
            graph.keep(ids)  # one channel, broadcast over all others
    return full[0]


def _operation(graph, operation, path, inputs, shapes, shape, node):
    kind = type(operation).__name__
    if kind not in kinds.MERGING_OPERATIONS:
        raise Unsupported(f"keras.ops.{kind} is not handled")
    known = (numbers.Number, keras.KerasTensor)
    if not all(isinstance(value, known) for value in _arguments(node)):
        raise Unsupported("an array in an expression is not handled")
    return _merge(graph, operation, path, inputs, shapes, shape, node)


def _flatten(graph, layer, path, inputs, shapes, shape, node):
    if len(shape) > 2:
        return inputs[0]  # only positions are renumbered
    positions = shapes[0][1:-1]
    if None in positions:
        raise Unsupported("the number of positions it flattens is not fixed")
    return np.tile(inputs[0], math.prod(positions))


def _rescale(graph, layer, path, inputs, shapes, shape, node):
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        raise Unsupported("it scales each channel by a constant of its own")
    return inputs[0]


_RULES = {
    **dict.fromkeys(kinds.PRODUCERS, _produce),
    **dict.fromkeys(kinds.FOLLOWERS, _follow),
    **dict.fromkeys(kinds.DEPTHWISE, _depthwise),
    **dict.fromkeys((*kinds.MERGES, layers.Concatenate), _merge),
    **dict.fromkeys((layers.Flatten, layers.Reshape), _flatten),
    layers.Rescaling: _rescale,
}
