# SPDX-License-Identifier: Apache-2.0
"""rewrite(): a model's graph again, with fake quantisation in its places."""

from __future__ import annotations

import collections

import keras
import numpy as np
from keras import layers

from keras_kd.core.copying import copy_state
from keras_kd.pruning.structured.kinds import MERGES
from keras_kd.pruning.structured.trace import calls_of
from keras_kd.pruning.structured.trace import check_graph
from keras_kd.pruning.structured.trace import graph_of
from keras_kd.quantization.fake import FakeQuantize
from keras_kd.quantization.fake import FakeQuantizedKernel

KERNELS = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
)
# Their output has the range of their input.
SAME_RANGE = (
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector),
    *(layers.Identity, layers.Dropout),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D),
    *(layers.MaxPooling1D, layers.MaxPooling2D),
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
    *(layers.AveragePooling1D, layers.AveragePooling2D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D),
    *(layers.Cropping1D, layers.Cropping2D),
    *(layers.UpSampling1D, layers.UpSampling2D),
)
NEW_RANGE = (
    *(layers.BatchNormalization, layers.Rescaling, layers.Normalization),
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU),
    *(layers.ELU, layers.Softmax, layers.Concatenate, *MERGES),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
)
# LiteRT computes these with a scale of its own.
FIXED = {
    "sigmoid": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
SUMS = (layers.Add, layers.BatchNormalization)
FUSED = ("linear", "relu", "relu6")


def rewrite(
    model: keras.Model, momentum: float
) -> tuple[keras.Model, list[FakeQuantize]]:
    """Returns a copy of a model that rounds where an int8 file rounds.

    And those of the copy's layers whose range depends on the data.

    Raises:
        ValueError: If the model has no graph, or a layer is of a kind that
            is not known here.
    """
    check_graph(model, "quantization_aware")
    graph = graph_of(model)
    for operation in graph.operations:
        _check_kind(operation)
    walk = _Walk(graph, momentum)
    return walk.run(model.name), walk.ranges


def _check_kind(layer):
    mended = None
    if getattr(layer, "quantization_mode", None):
        mended = "was quantised by Keras", "Pass the model of before that"
    elif getattr(layer, "lora_enabled", False):
        mended = (
            "is adapted by LoRA",
            "Load its weights file, from save_weights, into the same model "
            "without enable_lora: that merges the adaptation",
        )
    if mended:
        raise ValueError(
            f"Layer '{layer.name}' {mended[0]}. quantization_aware expects "
            f"layers with one kernel in float32. {mended[1]}."
        )
    known = (*KERNELS, *SAME_RANGE, *NEW_RANGE, layers.InputLayer)
    if type(layer) not in known:
        raise ValueError(
            f"Layer '{layer.name}' is a {type(layer).__name__}, which does not "
            "support quantisation-aware training. Expected only "
            f"{[kind.__name__ for kind in KERNELS]} and layers of activation, "
            "pooling, merging and shape, none of them inside another model. "
            "Write a SeparableConv2D as a DepthwiseConv2D and a Conv2D, and "
            '`a + b` as layers.Add. Without it, export with quantize="int8".'
        )


class _Walk:
    """One walk along a graph, in the order of its arithmetic."""

    def __init__(self, graph, momentum):
        self.graph, self.momentum = graph, momentum
        self.ranges, self.copies, self.names = [], {}, collections.Counter()
        self.nodes = calls_of(graph)
        self.calls = collections.Counter(id(n.operation) for n in self.nodes)
        self.users = collections.defaultdict(list)
        for node in self.nodes:
            for tensor in node.input_tensors:
                self.users[id(tensor)].append(node)
        self.results = {id(tensor) for tensor in graph.outputs}

    def run(self, name):
        inputs, values, folded = {}, {}, {}
        for node in self.nodes:
            key = id(node.outputs[0])
            if node.is_input:
                given, name = node.outputs[0], node.operation.name
                x = keras.Input(
                    batch_shape=given.shape, dtype=given.dtype, name=name
                )
                inputs[key] = values[key] = x
                if keras.backend.is_float_dtype(x.dtype):
                    values[key] = self._range(node.operation)(x)
                continue
            norm = self._norm_after(node)
            x = folded.pop(id(node), None)
            if x is None:
                x = self._call(node, values, norm)
            if norm is not None:
                folded[id(norm)] = x
                continue
            values[key] = self._rounded(node, x)
        return keras.Model(
            _filled(self.graph._inputs_struct, inputs),
            _filled(self.graph._outputs_struct, values),
            name=name,
        )

    def _sole_user(self, node):
        key = id(node.outputs[0])
        alone = len(self.users[key]) == 1 and key not in self.results
        return self.users[key][0] if alone else None

    def _norm_after(self, node):
        """Returns the node of the normalisation that folds into this one."""
        layer, user = node.operation, self._sole_user(node)
        folds = (
            user is not None
            and type(layer) in KERNELS
            and type(user.operation) is layers.BatchNormalization
            and self.calls[id(layer)] == self.calls[id(user.operation)] == 1
            and _activation(layer) == "linear"
            and user.operation.axis in (-1, len(node.outputs[0].shape) - 1)
        )
        return user if folds else None

    def _call(self, node, values, norm):
        layer = node.operation
        arguments, options = node.arguments.fill_in(values)
        options.pop("training", None)
        if id(layer) in self.copies:
            return self.copies[id(layer)](*arguments, **options)
        config, weights = layer.get_config(), layer.get_weights()
        if isinstance(layer, layers.Rescaling):
            config["offset"] = 0.0  # added in `_rounded`
        if type(layer) in KERNELS and _activation(layer) not in FUSED:
            config["activation"] = "linear"
        if norm is not None:
            config["use_bias"] = True
            weights = list(_folded(layer, norm.operation))
        copy = type(layer).from_config(config)
        if type(layer) is layers.BatchNormalization:
            copy.trainable = False  # int8 has no statistics of a batch
        if type(layer) in KERNELS:
            copy = FakeQuantizedKernel(
                copy, name=layer.name, dtype=layer.dtype_policy
            )
        self.copies[id(layer)] = copy
        x = copy(*arguments, **options)
        copy.set_weights(weights)
        if type(copy) is type(layer):
            copy_state(layer, copy)
        return x

    def _rounded(self, node, x):
        """Returns the value after a layer, as int8 holds it."""
        layer, user = node.operation, self._sole_user(node)
        if type(layer) in SAME_RANGE:
            return x
        if type(layer) in KERNELS and _activation(layer) not in FUSED:
            x = self._range(layer, "_sum")(x)
            x = self._activated(layer, x)
        if isinstance(layer, layers.Rescaling) and np.any(layer.offset):
            x = self._range(layer, "_product")(x)
            name = f"{layer.name}_offset"
            x = layers.Rescaling(1.0, layer.offset, name=name)(x)
        # LiteRT computes a sum and the ReLU of it in one, unrounded between.
        activation = _activation(layer)
        is_sum = type(layer) in (*KERNELS, *SUMS) and activation == "linear"
        if is_sum and user is not None and _is_relu(user.operation):
            return x
        return self._range(layer, fixed=FIXED.get(activation))(x)

    def _activated(self, layer, x):
        """Returns the activation that its layer's copy has lost."""
        name = f"{layer.name}_activation"
        if _activation(layer) != "silu":
            return layers.Activation(layer.activation, name=name)(x)
        # LiteRT multiplies by the rounded sigmoid.
        gate = layers.Activation("sigmoid", name=name)(x)
        gate = self._range(layer, "_gate", FIXED["sigmoid"])(gate)
        return layers.Multiply(name=f"{layer.name}_gated")([x, gate])

    def _range(self, layer, suffix="", fixed=None):
        name = f"{layer.name}{suffix}_int8"
        self.names[name] += 1
        if self.names[name] > 1:
            name = f"{name}_{self.names[name]}"
        if fixed:
            return FakeQuantize(*fixed, momentum=1.0, name=name)
        self.ranges.append(FakeQuantize(momentum=self.momentum, name=name))
        return self.ranges[-1]


def _folded(layer: layers.Layer, norm: layers.BatchNormalization):
    """Returns the kernel and bias of a layer that does what both do.

    LiteRT's converter does it too. It has to come before the rounding, or
    other weights would be trained than those that are shipped. The layer has
    a linear activation; of the norm, which is of the last axis, the moving
    averages are used, as in inference.
    """
    numpy = keras.ops.convert_to_numpy
    factor = 1.0 / np.sqrt(numpy(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        factor = factor * numpy(norm.gamma)
    bias = numpy(layer.bias) if layer.use_bias else 0.0
    bias = (bias - numpy(norm.moving_mean)) * factor
    if norm.center:
        bias = bias + numpy(norm.beta)
    kernel = numpy(layer.kernel)
    if isinstance(layer, layers.DepthwiseConv2D):
        kernel = kernel * factor.reshape(kernel.shape[-2:])
    elif isinstance(layer, layers.Conv2DTranspose):
        kernel = kernel * factor[:, None]
    else:
        kernel = kernel * factor
    return kernel, bias


def _activation(layer):
    if isinstance(layer, layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", "linear")


def _is_relu(layer):
    if type(layer) is layers.ReLU:
        return (
            layer.max_value in (None, 6)
            and not layer.negative_slope
            and not layer.threshold
        )
    return type(layer) is layers.Activation and _activation(layer) in FUSED


def _filled(structure, values):
    return keras.tree.map_structure(lambda t: values[id(t)], structure)
