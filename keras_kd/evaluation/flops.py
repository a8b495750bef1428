# SPDX-License-Identifier: Apache-2.0
"""FLOPs: the floating-point operations of one example, where countable."""

from __future__ import annotations

import contextlib
import io
import math
import os
from typing import Any

import keras
import tensorflow as tf

from keras_kd.evaluation import runtimes

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
# What TensorFlow's profiler has no formula for, and what it counts once
# though it runs many times. A total without them would be wrong.
_UNCOUNTABLE = {
    *_CALLS,
    *("While", "StatelessWhile", "Enter", "If", "StatelessIf", "Case"),
    *("Conv3DBackpropInput", "Conv3DBackpropInputV2", "PyFunc", "XlaDot"),
    *("EagerPyFunc", "FFT", "FFT2D", "RFFT", "RFFT2D", "IRFFT"),
    *("SparseTensorDenseMatMul", "CudnnRNN", "CudnnRNNV3"),
}
_PRODUCTS = {
    *("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"),
    *("Conv2D", "DepthwiseConv2dNative", "Conv3D"),
}


def count_flops(
    model_or_path: keras.Model | str | os.PathLike, inputs: Any
) -> int | None:
    """Counts the floating-point operations of one forward pass.

    They are counted by TensorFlow's own profiler in the graph that runs: a
    multiplication and an addition are two. Einsum, which it leaves out, and
    transposed convolutions, which it estimates, are counted here.

    Args:
        model_or_path: `keras.Model`, .keras or .tflite file, or the version
            folder of a SavedModel.
        inputs: One or more examples, an array or a dict of arrays: their
            shapes count, their values do not.

    Returns:
        The operations of one example, zeros in the weights included; `None`
        where they cannot be counted: .tflite files, loops (recurrent
        layers that are not unrolled), functions that XLA compiles (grouped
        convolutions on a CPU), and shapes that depend on values.
    """
    if not isinstance(model_or_path, keras.Model):
        kind = runtimes.kind_of(model_or_path)
        if kind == "tflite":
            return None
        if kind == "keras":
            model_or_path = keras.models.load_model(
                model_or_path, compile=False
            )
    specs = tf.nest.map_structure(_spec_of_one, inputs)
    if isinstance(model_or_path, keras.Model):
        model = model_or_path
        function = tf.function(lambda x: model(x, training=False))
    else:
        loaded = tf.saved_model.load(str(model_or_path))
        signature = loaded.signatures[runtimes.SIGNATURE]
        wanted = signature.structured_input_signature[1]
        named = runtimes.name_inputs(specs, list(wanted))
        specs = {
            name: tf.TensorSpec(
                # A signature may be for batches of one size.
                [wanted[name].shape[0] or 1, *spec.shape[1:]],
                wanted[name].dtype,
            )
            for name, spec in named.items()
        }
        function = tf.function(lambda x: signature(**x))
    total = _flops_of(_flat_graph(function.get_concrete_function(specs)))
    batch_size = tf.nest.flatten(specs)[0].shape[0]
    return total if total is None else total // batch_size


def _spec_of_one(value):
    dtype = tf.string if value.dtype.kind in "OSU" else value.dtype
    return tf.TensorSpec((1, *value.shape[1:]), dtype)


def _flat_graph(function) -> tf.Graph:
    """Returns the function's graph without calls of other functions."""
    from tensorflow.python.framework import convert_to_constants

    kinds = {operation.type for operation in function.graph.get_operations()}
    if not kinds & _CALLS:
        return function.graph
    # The profiler does not look into called functions. Freezing, the public
    # way of TF 1 to one flat graph, puts them in place.
    return convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False
    ).graph


def _flops_of(graph: tf.Graph) -> int | None:
    counted = _profile(graph)
    for operation in graph.get_operations():
        kind = operation.type
        if kind in _UNCOUNTABLE:
            return None
        if kind not in _PRODUCTS and kind not in _COUNTED_HERE:
            continue
        tensors = [*operation.inputs, *operation.outputs]
        if not all(tensor.shape.is_fully_defined() for tensor in tensors):
            return None
        if kind in _COUNTED_HERE:
            counted[operation.name] = _COUNTED_HERE[kind](operation)
        elif not counted.get(operation.name):
            return None
    if None in counted.values():
        return None
    return sum(counted.values())


def _profile(graph: tf.Graph) -> dict[str, int]:
    """Returns operations by name of node, as TensorFlow's profiler counts."""
    profiler = tf.compat.v1.profiler
    builder = profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    counted = {}
    with _no_notices():
        nodes = [profiler.profile(graph, options=options)]
    while nodes:
        node = nodes.pop()
        # A node is the child of another whose name its own begins with.
        nodes += node.children
        counted[node.name] = int(node.float_ops)
    return counted


@contextlib.contextmanager
def _no_notices():
    """Keeps from users what the profiler says of its own inside."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _flops_of_einsum(operation):
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes = {}
    for term, tensor in zip(terms, operation.inputs, strict=True):
        if "." in term:
            return None
        sizes |= zip(term, tensor.shape, strict=True)
    return 2 * math.prod(sizes.values())


def _flops_of_transposed_conv(operation):
    _, kernel, small = operation.inputs
    height, width, output_channels, _ = kernel.shape
    return 2 * math.prod(small.shape) * height * width * output_channels


_COUNTED_HERE = {
    "Conv2DBackpropInput": _flops_of_transposed_conv,
    "Einsum": _flops_of_einsum,
}
