# SPDX-License-Identifier: Apache-2.0
"""Answers: what an exported model's outputs are called, and which it has."""

from __future__ import annotations

import re

import keras
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.export.signatures.signature import plain

LOGITS, PROBABILITIES = "logits", "probabilities"
HEADS = (LOGITS, PROBABILITIES, "regression")

# What an output is, or what several are, by name.
Head = str | dict[str, str] | None


def answer_function(model: keras.Model, head: Head = None):
    """Returns `inputs -> {name: float32 tensor}`, the answer of an export.

    Args:
        model: A built model.
        head: What its one output is. `"logits"` and `"probabilities"` answer
            with both, `"regression"` with the output as it is, under
            `"output"`. `None` reads it from the last activation: softmax and
            sigmoid are probabilities, anything else logits, except where the
            model was compiled with a loss of numbers, such as "mse"; where
            there is no graph to read (a subclassed model), the output stays
            as it is. The outputs of a model with several keep their names;
            a dict by these names says what some of them are: class outputs
            then answer with `species_logits` and `species_probabilities`.

    Raises:
        ValueError: If `head` is unknown.
    """
    several = isinstance(head, dict)
    for one in head.values() if several else [head]:
        if one is not None and one not in HEADS:
            raise ValueError(
                f"`head` must be None, one of {HEADS}, or a dict of them by "
                f"output name. Received: {head!r}"
            )
    activation = output_heads.activation_of(model)
    if head is None and activation is not None:
        head = LOGITS if activation == "linear" else PROBABILITIES
        if head == LOGITS and output_heads.is_of_numbers(model):
            head = "regression"

    def answer(inputs):
        outputs = model(inputs, training=False)
        paths = keras.tree.flatten_with_path(outputs)
        if len(paths) > 1 or isinstance(outputs, dict):
            names = _output_names(model, [path for path, _ in paths])
            heads = head if several else {}
            if not set(heads) <= set(names):
                raise ValueError(
                    "`head` must be a dict by the outputs' names, which are "
                    f"{names}. Received: {head}"
                )
            answers = {}
            for name, (_, tensor) in zip(names, paths, strict=True):
                # Under its own name unless it is known to be of classes.
                kind = heads.get(name) or "regression"
                known = _activation_or_none(model, name)
                for key, value in _by_head(tensor, kind, known).items():
                    key = name if key == "output" else f"{name}_{key}"
                    answers[key] = value
            return answers
        ((_, output),) = paths
        return _by_head(output, head, activation)

    return answer


def regressions(model: keras.Model, head: Head) -> set[str]:
    """Returns the outputs that are known to be numbers, by name."""
    if isinstance(head, dict):
        return {name for name, one in head.items() if one == "regression"}
    known = head is None and output_heads.is_of_numbers(model)
    return {"output"} if head == "regression" or known else set()


def _by_head(output, head, activation):
    """Returns what is answered with an output, by name."""
    one_unit = output.shape[-1] == 1
    if head == LOGITS:
        logits = _as_float32(output)
        squash = tf.sigmoid if one_unit else tf.nn.softmax
        return {LOGITS: logits, PROBABILITIES: squash(logits)}
    if head == PROBABILITIES:
        if activation not in ("softmax", "sigmoid"):
            activation = "sigmoid" if one_unit else "softmax"
        logits = output_heads.to_logits(output, activation)
        return {LOGITS: logits, PROBABILITIES: _as_float32(output)}
    return {"output": _as_float32(output)}


def _activation_or_none(model, name):
    try:
        return output_heads.activation_of(model, name)
    except KeyError:  # exported under a name that is not the layer's
        return None


def _output_names(model, paths):
    if any(isinstance(key, str) for path in paths for key in path):
        return [plain("_".join(map(str, path))) for path in paths]
    count = len(paths)
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != count or len(set(names)) < count:
        return [f"output_{index}" for index in range(count)]
    layers = {layer.name: layer for layer in model.layers}
    return [
        f"output_{index}" if _is_automatic(layers.get(name)) else plain(name)
        for index, name in enumerate(names)
    ]


def _is_automatic(layer):
    """Whether a layer's name is Keras' own, such as `dense_7`."""
    if layer is None:
        return True
    # Keras makes Conv2DTranspose to conv2d_transpose; underscores aside, a
    # name of its own is the class name and a number.
    name = re.sub(r"(_\d+)?$", "", layer.name).replace("_", "")
    return name == type(layer).__name__.lower()


def _as_float32(tensor):
    tensor = tf.convert_to_tensor(tensor)
    is_half = tensor.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(tensor, tf.float32) if is_half else tensor
