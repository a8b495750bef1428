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
import tensorflow as tf

from keras_kd.core.litert_runner import plain_name

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
    tensors = keras.tree.flatten(structure)
    _, names = own_names(model, sample)
    if len(set(names)) < len(names):
        raise ValueError(
            f"Inputs must have different names, of letters, digits and '_'. "
            f"Received: {names}. Name them: keras.Input(..., name='image')."
        )
    specs = []
    for name, tensor in zip(names, tensors, strict=True):
        shape = (batch_size, *tuple(tensor.shape)[1:])
        specs.append(tf.TensorSpec(shape, tensor.dtype, name=name))
    return keras.tree.pack_sequence_as(structure, specs)


def own_names(model: keras.Model, sample: Any = None) -> list[list[str]]:
    """Returns lists of names by which a model's user tells its inputs apart.

    Each has a name for each input, in the order of `input_specs`: those that
    Keras knows (`"spectrum-raw"`, `"keras_tensor_7"`), and those that
    `input_specs` makes of them.
    """
    paths = keras.tree.flatten_with_path(_known_inputs(model, sample))
    known = [
        "_".join(map(str, path))
        if any(isinstance(key, str) for key in path)
        else getattr(tensor, "name", "")
        for path, tensor in paths
    ]
    made = [
        _input_name(path, tensor, index, len(paths))
        for index, (path, tensor) in enumerate(paths)
    ]
    return [known, made]


def _known_inputs(model, sample):
    if isinstance(model, keras.Sequential) and model.built:
        return model.inputs[0]
    if getattr(model, "inputs", None):
        return model.input
    shapes = (model.get_build_config() or {}).get("input_shape")
    if sample is not None:
        if isinstance(sample, dict) and shapes is not None:
            sample = _as_called(shapes, sample)
        return keras.tree.map_structure(tf.convert_to_tensor, sample)
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


def _as_called(shapes, sample):
    """Returns a dict by `input_0`, `input_1` as the tuple of a call."""
    called = keras.tree.map_shape_structure(lambda _: 0, shapes)
    names = [f"input_{i}" for i in range(len(keras.tree.flatten(called)))]
    if isinstance(called, dict) or set(names) != set(sample):
        return sample
    return keras.tree.pack_sequence_as(called, [sample[n] for n in names])


def _input_name(path, tensor, index, count):
    keys = [str(key) for key in path]
    if any(isinstance(key, str) for key in path):
        name = "_".join(keys)
    elif isinstance(tensor, keras.KerasTensor):
        name = tensor.name
    else:
        name = "input" if count == 1 else f"input_{index}"
    if _AUTOMATIC.fullmatch(name) and not path[-1:] == (name,):
        name = "input" if count == 1 else f"input_{index}"
    return plain_name(name)
