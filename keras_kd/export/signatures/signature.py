# SPDX-License-Identifier: Apache-2.0
"""Signatures: what an exported model's inputs and outputs are called.

A client asks by name. Keras numbers unnamed tensors by how many layers the
process made before (`keras_tensor_15`), so an export that kept those names
would break its clients when it is repeated.
"""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.core.litert_runner import name_inputs

HEADS = ("logits", "probabilities", "regression")

_AUTOMATIC = re.compile(r"(keras_tensor|input_layer)(_\d+)?")


def input_specs(
    model: keras.Model, sample: Any = None, batch_size: int | None = None
) -> Any:
    """Returns a named `tf.TensorSpec` for each input, in the model's nesting.

    A name given by the user is kept: the key of a dict, else the name of the
    `keras.Input`. Others are called `"input"`, or `"input_0"`, `"input_1"`
    where there are several.

    Args:
        model: A built model.
        sample: Batch that a subclassed model takes. Tells dtypes and shapes,
            which such a model does not know; not needed for others.
        batch_size: Fixed batch size, or `None` for a free one.

    Raises:
        ValueError: If the model does not know its inputs, or two of them
            share a name.
    """
    structure = _known_inputs(model, sample)
    paths = keras.tree.flatten_with_path(structure)
    names = [
        _input_name(path, tensor, index, len(paths))
        for index, (path, tensor) in enumerate(paths)
    ]
    if len(set(names)) < len(names):
        raise ValueError(
            f"Inputs must have different names, of letters, digits and '_'. "
            f"Received: {names}. Name them: keras.Input(..., name='image')."
        )
    specs = []
    for name, (_, tensor) in zip(names, paths, strict=True):
        shape = (batch_size, *tuple(tensor.shape)[1:])
        specs.append(tf.TensorSpec(shape, tensor.dtype, name=name))
    return keras.tree.pack_sequence_as(structure, specs)


def answer_function(model: keras.Model, head: str | None = None):
    """Returns `inputs -> {name: float32 tensor}`, the answer of an export.

    Args:
        model: A built model.
        head: What its one output is. `"logits"` and `"probabilities"` answer
            with both, `"regression"` with the output as it is, under
            `"output"`. `None` reads it from the last activation: softmax and
            sigmoid are probabilities, anything else logits; where there is
            no graph to read (a subclassed model), the output stays as it is.
            Ignored for a model with several outputs: they keep their names.

    Raises:
        ValueError: If `head` is unknown.
    """
    if head is not None and head not in HEADS:
        raise ValueError(
            f"`head` must be None or one of {HEADS}. Received: {head!r}"
        )
    activation = output_heads.activation_of(model)
    if head is None and activation is not None:
        head = "logits" if activation == "linear" else "probabilities"

    def answer(inputs):
        outputs = model(inputs, training=False)
        paths = keras.tree.flatten_with_path(outputs)
        if len(paths) > 1 or isinstance(outputs, dict):
            names = _output_names(model, [path for path, _ in paths])
            tensors = [_as_float32(tensor) for _, tensor in paths]
            return dict(zip(names, tensors, strict=True))
        ((_, output),) = paths
        if head == "logits":
            logits = _as_float32(output)
            one_unit = logits.shape[-1] == 1
            squash = tf.sigmoid if one_unit else tf.nn.softmax
            return {"logits": logits, "probabilities": squash(logits)}
        if head == "probabilities":
            guess = "sigmoid" if output.shape[-1] == 1 else "softmax"
            known = activation in ("softmax", "sigmoid")
            kind = activation if known else guess
            logits = output_heads.to_logits(output, kind)
            return {"logits": logits, "probabilities": _as_float32(output)}
        return {"output": _as_float32(output)}

    return answer


def random_batch(specs: Any, rows: int = 4) -> dict[str, np.ndarray]:
    """Returns a batch of the right shapes and dtypes, the same each time.

    Floats lie in [0, 1); integers are 0 or 1, which any vocabulary holds;
    sizes the model leaves open are 32.
    """
    generator = np.random.default_rng(0)
    batch = {}
    for spec in keras.tree.flatten(specs):
        shape = (rows, *(size or 32 for size in spec.shape[1:]))
        dtype = spec.dtype
        if dtype == tf.string:
            batch[spec.name] = np.full(shape, b"a")
        elif dtype.is_floating:
            batch[spec.name] = generator.random(shape).astype(
                dtype.as_numpy_dtype
            )
        else:
            batch[spec.name] = generator.integers(0, 2, shape).astype(
                dtype.as_numpy_dtype
            )
    return batch


def as_request(specs: Any, inputs: Any) -> dict[str, np.ndarray]:
    """Returns a batch of what the model takes as arrays by input name.

    Raises:
        ValueError: If the batch is not nested as the model's inputs are.
    """
    flat = keras.tree.flatten(specs)
    names = [spec.name for spec in flat]
    try:
        keras.tree.assert_same_structure(specs, inputs)
        inputs = keras.tree.flatten(inputs)
    except (TypeError, ValueError):
        # Not nested as the inputs are. Those of a dict have no order.
        names = set(names) if isinstance(specs, dict) else names
    named = name_inputs(inputs, names)
    batch = {}
    for spec in flat:
        array = np.asarray(named[spec.name])
        if spec.dtype == tf.string:
            batch[spec.name] = np.char.encode(array.astype(str), "utf-8")
        else:
            batch[spec.name] = array.astype(spec.dtype.as_numpy_dtype)
        if not spec.shape[1:].is_compatible_with(array.shape[1:]):
            raise ValueError(
                f"`inputs`: `{spec.name}` must have shape "
                f"{tuple(spec.shape)}. Received: {array.shape}"
            )
    return batch


def _known_inputs(model, sample):
    if isinstance(model, keras.Sequential) and model.built:
        return model.inputs[0]
    if getattr(model, "inputs", None):
        return model.input
    if sample is not None:
        return keras.tree.map_structure(tf.convert_to_tensor, sample)
    shapes = (model.get_build_config() or {}).get("input_shape")
    if not model.built or shapes is None:
        raise ValueError(
            f"The inputs of model `{model.name}` are not known. Expected a "
            "model that was called on one batch before. Call it on a batch, "
            "or pass one as `inputs`."
        )
    # Under a mixed policy a model reports float16 but takes float32.
    dtype = tf.as_dtype(model.input_dtype)
    dtype = tf.float32 if dtype.is_floating else dtype
    return keras.tree.map_shape_structure(
        lambda shape: tf.TensorSpec(shape, dtype), shapes
    )


def _input_name(path, tensor, index, count):
    keys = [str(key) for key in path]
    if any(isinstance(key, str) for key in path):
        name = "_".join(keys)
    elif isinstance(tensor, keras.KerasTensor):
        name = tensor.name
    else:
        name = "input"
    if _AUTOMATIC.fullmatch(name) and not path[-1:] == (name,):
        name = "input" if count == 1 else f"input_{index}"
    return _plain(name)


def _output_names(model, paths):
    if any(isinstance(key, str) for path in paths for key in path):
        return [_plain("_".join(map(str, path))) for path in paths]
    count = len(paths)
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != count or len(set(names)) < count:
        return [f"output_{index}" for index in range(count)]
    layers = {layer.name: layer for layer in model.layers}
    return [
        f"output_{index}" if _is_automatic(layers.get(name)) else _plain(name)
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


def _plain(name):
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"input_{name}" if name[:1].isdigit() else name


def _as_float32(tensor):
    tensor = tf.convert_to_tensor(tensor)
    is_half = tensor.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(tensor, tf.float32) if is_half else tensor
