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

# Losses whose labels are numbers to be predicted.
OF_NUMBERS = (
    keras.losses.mean_squared_error,
    keras.losses.mean_absolute_error,
    keras.losses.mean_absolute_percentage_error,
    keras.losses.mean_squared_logarithmic_error,
    keras.losses.huber,
    keras.losses.log_cosh,
)

# Losses whose units are a yes or a no each.
OF_UNITS = (
    keras.losses.binary_crossentropy,
    keras.losses.binary_focal_crossentropy,
)

# Layers and ops that may follow the activation without changing its values.
_PASS_THROUGH = ("Reshape", "Flatten", "Identity", "Cast", "Squeeze", "Dropout")

# Their output is a product, not what their activation gives.
_GATED = (keras.layers.LSTM, keras.layers.GRU)


def activation_of(model: keras.Model, output: str | None = None) -> str | None:
    """Returns the activation a model's output went through last.

    Args:
        model: Any Keras model.
        output: Name of the output, for a model with several.

    Returns:
        `"softmax"`, `"sigmoid"` or `"linear"`; `None` where the model has no
        graph to read (a subclassed model), ends in a lambda, or the output is
        no single tensor.
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

    Class ids for softmax and logit outputs, 0/1 labels for sigmoid ones and
    for a single unit of logits.

    Raises:
        ValueError: If the output cannot be read off the model.
    """
    activation = activation_of(model)
    if activation is None:
        raise ValueError(
            f"Cannot tell what '{getattr(model, 'name', model)}' ends in, so "
            "there is no default loss. Pass `loss`, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
    from_logits = activation == "linear"
    if activation == "sigmoid" or model.output_shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def is_of_numbers(model: keras.Model) -> bool:
    """Whether a model was compiled with one loss that compares numbers."""
    return _is_compiled_with(model, OF_NUMBERS)


def is_of_units(model: keras.Model) -> bool:
    """Whether a model was compiled with one loss of yes/no units."""
    return _is_compiled_with(model, OF_UNITS)


def _is_compiled_with(model, losses):
    loss = getattr(model, "loss", None)
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    return any(function is known for known in losses)


def named_outputs(model: keras.Model) -> dict:
    """Returns a functional model's outputs by name, in order."""
    if isinstance(model, keras.Sequential):
        return {"output": model.outputs[0]}
    if isinstance(model.output, dict):
        return dict(model.output)
    return dict(zip(model.output_names, model.outputs, strict=True))


def activation_of_tensor(tensor) -> str | None:
    """Returns the activation that a symbolic tensor went through last.

    `None` where it went through a lambda, which could be anything.
    """
    operation, _, index = tensor._keras_history
    if isinstance(operation, keras.layers.Wrapper):
        operation = operation.layer
    if isinstance(operation, keras.Model):
        return activation_of_tensor(operation.outputs[index])
    kind = type(operation).__name__
    activation = getattr(operation, "activation", None)
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    if isinstance(operation, _GATED):
        return "linear"
    name = _name_of(activation)
    if name in ("softmax", "sigmoid"):
        return name
    if kind == "Lambda" or name == "<lambda>":
        return None
    passes = activation is keras.activations.linear and isinstance(
        operation, keras.layers.Activation
    )
    if passes or kind in _PASS_THROUGH:
        node = operation._inbound_nodes[tensor._keras_history.node_index]
        return activation_of_tensor(node.input_tensors[0])
    return "linear"


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
