# SPDX-License-Identifier: Apache-2.0
"""Runtimes: every artefact as one function, run by what will serve it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core import output_heads
from keras_kd.core.file_formats import format_of
from keras_kd.core.litert_runner import LiteRTRunner
from keras_kd.core.litert_runner import name_inputs
from keras_kd.core.litert_runner import values_as
from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.progress import no_native_notices
from keras_kd.core.saved_models import load_saved_model
from keras_kd.data.splits import compile_for

Runner = Callable[[Any], dict[str, np.ndarray]]

SIGNATURE = "serving_default"
OUTPUT_NAMES = {
    "linear": "logits",
    "softmax": "probabilities",
    "sigmoid": "probabilities",
}


def kind_of(path: str | os.PathLike) -> str:
    """Returns `"keras"`, `"tflite"` or `"saved_model"`.

    Raises:
        ValueError: If `path` is not one of the three.
    """
    path, exported = pathlib.Path(path), format_of(path)
    if exported and path.exists():
        return exported
    if path.is_file() and path.suffix == ".keras":
        return "keras"
    hint = ""
    if path.is_dir() and any(path.glob("*/saved_model.pb")):
        hint = " This folder holds versions: pass one of them."
    raise ValueError(
        "An artefact must be an existing .keras file, a .tflite file or a "
        f"SavedModel folder (with saved_model.pb).{hint} Received: {path}"
    )


def load_runner(
    model_or_path: keras.Model | str | os.PathLike, threads: int = 1
) -> Runner:
    """Loads an artefact as a function from inputs to named outputs.

    A Keras model runs as one graph with `training=False`, a SavedModel
    through its `serving_default` signature, a .tflite file in LiteRT.

    Args:
        model_or_path: `keras.Model`, .keras or .tflite file, or the version
            folder of a SavedModel.
        threads: Threads of the LiteRT interpreter. TensorFlow's own are set
            once per process, so they are not this function's business.

    Returns:
        A function that takes a batch (an array, or a dict of arrays for
        several inputs) and returns `{output name: array}`.
    """
    if isinstance(model_or_path, keras.Model):
        return _keras_runner(model_or_path)
    kind = kind_of(model_or_path)
    if kind == "keras":
        model = keras.models.load_model(model_or_path, compile=False)
        return _keras_runner(model)
    if kind == "saved_model":
        return _saved_model_runner(model_or_path)
    with no_native_notices():
        runner = LiteRTRunner(model_or_path, threads)
    return _taking_columns(runner, runner.inputs)


def _keras_runner(model: keras.Model) -> Runner:
    activation = output_heads.activation_of(model)
    name = OUTPUT_NAMES.get(activation or "", "output")

    def call(x):
        return model(x, training=False)

    compiled: dict[str, Callable] = {}  # for the first size of an example
    # For others, such as texts of many lengths: free sizes from the second on.
    of_any_size = tf.function(call, reduce_retracing=True)

    def run(inputs):
        inputs = inputs_for(model, inputs)
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        sizes = str([part.shape[1:] for part in tf.nest.flatten(inputs)])
        if not compiled:
            compiled[sizes] = compile_for(call, inputs)
        answer = compiled.get(sizes, of_any_size)
        outputs = output_heads.outputs_by_name(model, answer(inputs))
        if not isinstance(outputs, dict):
            flat = tf.nest.flatten(outputs)
            numbered = {f"output_{i}": value for i, value in enumerate(flat)}
            outputs = {name: flat[0]} if len(flat) == 1 else numbered
        return {key: _as_array(value) for key, value in outputs.items()}

    return run


def _saved_model_runner(path: str | os.PathLike) -> Runner:
    loaded = load_saved_model(path)
    signature = loaded.signatures[SIGNATURE]
    specs = signature.structured_input_signature[1]

    # The signature holds its variables weakly: keep their owner alive.
    def run(inputs, owner=loaded):
        named = name_inputs(inputs, set(specs))
        tensors = {}
        for name, value in named.items():
            dtype = np.dtype(specs[name].dtype.as_numpy_dtype)
            if dtype.kind != "O":  # of text
                what = f"Input `{name}` of {path}"
                value = values_as(np.asarray(value), dtype, what)
            tensors[name] = tf.convert_to_tensor(value)
        outputs = signature(**tensors)
        return {key: _as_array(value) for key, value in outputs.items()}

    return _taking_columns(run, specs)


def _taking_columns(run, inputs):
    """Lets a file take a column `(rows,)` for `(rows, 1)`, as Keras does."""
    columns = {n for n, t in inputs.items() if tuple(t.shape[1:]) == (1,)}
    if not columns:
        return run

    def taking(batch):
        named = name_inputs(batch, set(inputs))
        for name in columns:
            if np.ndim(named[name]) == 1:
                named[name] = np.asarray(named[name])[:, None]
        return run(named)

    return taking


def _as_array(tensor: tf.Tensor) -> np.ndarray:
    if tensor.dtype in (tf.float16, tf.bfloat16):
        tensor = tf.cast(tensor, tf.float32)
    return tensor.numpy()
