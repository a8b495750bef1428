# SPDX-License-Identifier: Apache-2.0
"""Heads: what a model's output is, and how to turn it into class logits.

Half of the models in use end in a softmax or sigmoid, the other half in
logits. Every logit loss of this package sees logits, whatever the model
gives: a softmax head yields its log-probabilities, a sigmoid head of `n`
units becomes `n` heads of two classes with logits `(0, z)`, since

    softmax((0, z) / T) = (1 - sigmoid(z / T), sigmoid(z / T)),

so the categorical formula applied to it *is* the Bernoulli formula.
"""

from __future__ import annotations

import keras
from keras import ops

ACTIVATIONS = ("softmax", "sigmoid", "linear")

# Layers and ops, by their names in Keras. What gives logits whatever it takes:
_LINEAR = set(
    """Dense EinsumDense Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose
    Conv3DTranspose DepthwiseConv1D DepthwiseConv2D SeparableConv1D
    SeparableConv2D Embedding ReversibleEmbedding BatchNormalization
    LayerNormalization GroupNormalization RMSNormalization MeanPrediction
    """.split()
)
# What rearranges or averages, so that a distribution stays one:
_KEEPING = set(
    """Reshape Flatten Identity Cast Squeeze ExpandDims Dropout SpatialDropout1D
    SpatialDropout2D SpatialDropout3D Permute RepeatVector Cropping1D Cropping2D
    Cropping3D UpSampling1D UpSampling2D UpSampling3D AveragePooling1D
    AveragePooling2D AveragePooling3D GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D Average
    """.split()
)
# What makes logits of logits, and of anything else something unknown:
_OF_LOGITS = set(
    """Add Subtract Concatenate Rescaling Resizing ZeroPadding1D ZeroPadding2D
    ZeroPadding3D MaxPooling1D MaxPooling2D MaxPooling3D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalMaxPooling3D Maximum Minimum Mean Max GetItem Take
    Transpose Split Sum Negative Dot Matmul Einsum
    """.split()
)
# The same with a number; of two outputs it is a product, which is unknown.
_OF_LOGITS_AND_NUMBERS = {"Multiply", "Divide", "TrueDivide"}


def activation_of(model: keras.Model, output: str | None = None) -> str | None:
    """Returns the activation a model's output went through last.

    Args:
        model: Any Keras model.
        output: Name of the output, for a model with several.

    Returns:
        `"softmax"`, `"sigmoid"` or `"linear"`; `None` where the model has no
        graph to read (a subclassed model), it is not certain (see
        `activation_of_tensor`), or the output is no single tensor.
    """
    if getattr(model, "inputs", None) is None:
        return None
    tensors = named_outputs(model)
    if output is None and len(tensors) != 1:
        return None
    tensor = tensors[output] if output else next(iter(tensors.values()))
    return activation_of_tensor(tensor)


def default_loss(model: keras.Model) -> keras.losses.Loss:
    """Returns the label loss that fits a model's single output.

    Class ids for softmax and logit outputs, 0/1 labels for sigmoid ones.

    Raises:
        ValueError: If the output cannot be read off the model, or is a single
            linear unit: the logit of a yes or no, or a number.
    """
    activation = activation_of(model)
    if activation == "linear" and model.output_shape[-1] == 1:
        raise ValueError(
            f"'{model.name}' ends in one linear unit, which may be a number or "
            "the logit of a yes or no, so there is no default loss. Pass "
            "`task`, kd.tasks.Regression() or kd.tasks.Classification(), or "
            "`loss`, such as keras.losses.BinaryCrossentropy(from_logits=True)."
        )
    if activation is None:
        raise ValueError(
            f"Cannot tell what '{getattr(model, 'name', model)}' ends in, so "
            "there is no default loss. Pass `loss`, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
    from_logits = activation == "linear"
    if activation == "sigmoid" or model.output_shape[-1] == 1:
        return keras.losses.BinaryCrossentropy()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def named_outputs(model: keras.Model) -> dict:
    """Returns a functional model's outputs by name, in order."""
    if isinstance(model, keras.Sequential):
        return {"output": model.outputs[0]}
    if isinstance(model.output, dict):
        return dict(model.output)
    return dict(zip(model.output_names, model.outputs, strict=True))


def outputs_by_name(model: keras.Model, outputs):
    """Returns several outputs in a list as a dict by the model's names."""
    flat = keras.tree.flatten(outputs)
    has_graph = getattr(model, "inputs", None) is not None
    if isinstance(outputs, dict) or len(flat) == 1 or not has_graph:
        return outputs
    names = list(named_outputs(model))
    return dict(zip(names, flat, strict=True)) if len(names) > 1 else outputs


def activation_of_tensor(tensor) -> str | None:
    """Returns the activation that a symbolic tensor went through last.

    `None` where that is not certain: after a lambda, a layer of one's own, a
    product, a clip, or another activation.
    """
    operation, node, index = tensor._keras_history
    wrapped = isinstance(operation, keras.layers.Wrapper)
    if wrapped:
        operation = operation.layer
    if isinstance(operation, keras.Model):
        if getattr(operation, "inputs", None) is None:
            return None
        return activation_of_tensor(operation.outputs[index])
    kind = type(operation).__name__
    package = type(operation).__module__.partition(".")[0]
    if package not in ("keras", "keras_kd"):
        return None
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower() if _is_last_axis(operation, tensor) else None
    # Only of these is the output what the activation gives: an LSTM's is
    # a product.
    is_activation = isinstance(operation, keras.layers.Activation)
    if is_activation or kind in _LINEAR:
        name = _name_of(getattr(operation, "activation", None))
        if name in ("softmax", "sigmoid"):
            return name
        if name == "log_softmax":
            return "linear"
        if name not in ("linear", "nonetype"):
            return None
        if kind in _LINEAR:
            return "linear"
    if wrapped:
        return None
    taken = operation._inbound_nodes[node].input_tensors
    found = {activation_of_tensor(tensor) for tensor in taken}
    if is_activation or kind in _KEEPING:
        return found.pop() if len(found) == 1 else None
    is_scaled = kind in _OF_LOGITS_AND_NUMBERS and len(taken) == 1
    if (is_scaled or kind in _OF_LOGITS) and found == {"linear"}:
        return "linear"
    return None


def _is_last_axis(operation, tensor):
    axis = getattr(operation, "axis", -1)
    return axis in (None, -1, len(tensor.shape) - 1)


def _name_of(activation) -> str:
    # Keras' own, those of keras.ops and tf.nn ("softmax_v2"), or a layer.
    name = getattr(activation, "__name__", type(activation).__name__)
    return name.lower().removesuffix("_v2")


def to_logits(output, activation: str | None):
    """Turns an output into float32 logits of the same shape.

    Args:
        output: Tensor of shape `(batch, ..., units)`: logits, or what
            `activation` made of them.
        activation: `"softmax"`, `"sigmoid"`, `"linear"` or `None` (unknown:
            taken as linear unless Keras says otherwise).

    Returns:
        Logits: equal to the true ones up to a constant per row for softmax.
    """
    # Keras keeps the tensor a softmax or sigmoid was computed from; it is
    # exact where log(probability) has already lost its digits.
    kept = getattr(output, "_keras_logits", None)
    if activation != "linear" and kept is not None:
        return ops.cast(kept, "float32")
    output = ops.cast(output, "float32")
    smallest = 1.2e-38  # the smallest normal float32
    if activation == "softmax":
        return ops.log(ops.maximum(output, smallest))
    if activation == "sigmoid":
        return ops.log(ops.maximum(output, smallest)) - ops.log(
            ops.maximum(1.0 - output, smallest)
        )
    return output


def comparable(teacher, student, binary: bool | None = None):
    """Brings two sets of logits to one set of classes.

    Args:
        teacher: Logits `(batch, ..., units)`.
        student: Logits `(batch, ..., units)`.
        binary: Whether the units are independent yes/no outputs. `None`:
            only where a model has a single unit.

    Returns:
        The pair, both `(batch, ..., classes)`; binary units become pairs of
        classes, `(batch, ..., units, 2)`. A teacher of two classes may meet a
        student of one unit, and the other way round.
    """
    pairs = {1: "one unit", 2: "two classes"}
    units = pairs.get(teacher.shape[-1]), pairs.get(student.shape[-1])
    if units == ("two classes", "one unit"):
        return teacher, ops.squeeze(binary_to_classes(student), axis=-2)
    if units == ("one unit", "two classes"):
        return ops.squeeze(binary_to_classes(teacher), axis=-2), student
    if binary or "one unit" in units:
        return binary_to_classes(teacher), binary_to_classes(student)
    return teacher, student


def binary_to_classes(logits):
    """Turns Bernoulli logits `(batch, ..., n)` into `(batch, ..., n, 2)`.

    Class 1 of each pair is the event, so 0/1 labels index the last axis.
    """
    return ops.stack([ops.zeros_like(logits), logits], axis=-1)
