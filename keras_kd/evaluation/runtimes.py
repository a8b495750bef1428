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
from keras_kd.core.progress import no_native_notices
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
        ValueError: If `path` is none of the three.
    """
    path = pathlib.Path(path)
    if path.is_file() and path.suffix in (".keras", ".tflite"):
        return path.suffix[1:]
    if (path / "saved_model.pb").is_file():
        return "saved_model"
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
    return _LiteRTRunner(model_or_path, threads)


def name_inputs(inputs: Any, names: list[str]) -> dict[str, Any]:
    """Pairs inputs with the names that an artefact gives them.

    Raises:
        ValueError: If names and inputs do not match.
    """
    if isinstance(inputs, dict):
        if set(names) <= set(inputs):
            return {name: inputs[name] for name in names}
        received = f"inputs named {sorted(inputs)}"
    elif len(names) == 1:
        return {names[0]: inputs}
    else:
        received = "one unnamed input"
    raise ValueError(
        f"The artefact takes inputs named {sorted(names)}. "
        f"Received: {received}. Pass a dict with exactly these names."
    )


def _keras_runner(model: keras.Model) -> Runner:
    activation = output_heads.activation_of(model)
    name = OUTPUT_NAMES.get(activation, "output")

    compiled = None

    def run(inputs):
        nonlocal compiled
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        if compiled is None:
            compiled = compile_for(lambda x: model(x, training=False), inputs)
        outputs = compiled(inputs)
        if not isinstance(outputs, dict):
            flat = tf.nest.flatten(outputs)
            names = [name] if len(flat) == 1 else _numbered(flat)
            outputs = dict(zip(names, flat, strict=True))
        return {key: _as_array(value) for key, value in outputs.items()}

    return run


def _saved_model_runner(path: str | os.PathLike) -> Runner:
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures[SIGNATURE]
    specs = signature.structured_input_signature[1]

    def run(inputs):
        named = name_inputs(inputs, list(specs))
        tensors = {
            name: tf.cast(value, specs[name].dtype)
            for name, value in named.items()
        }
        outputs = signature(**tensors)
        return {key: _as_array(value) for key, value in outputs.items()}

    # The signature holds its variables weakly: keep their owner alive.
    run.owner = loaded
    return run


class _LiteRTRunner:
    """A .tflite file; resizes a free batch axis, walks along a fixed one."""

    def __init__(self, path: str | os.PathLike, threads: int):
        from ai_edge_litert.interpreter import Interpreter

        with no_native_notices():
            self.interpreter = Interpreter(str(path), num_threads=threads)
            self.interpreter.allocate_tensors()
        if self.interpreter.get_signature_list():
            # Raw tensors have no useful names; the signature's have.
            signature = self.interpreter.get_signature_runner()
            self.inputs = signature.get_input_details()
            self.outputs = signature.get_output_details()
        else:
            inputs = self.interpreter.get_input_details()
            outputs = self.interpreter.get_output_details()
            self.inputs = {detail["name"]: detail for detail in inputs}
            names = _numbered(outputs)
            self.outputs = dict(zip(names, outputs, strict=True))
        shapes = {n: d["shape"] for n, d in self.inputs.items()}
        for detail in self.interpreter.get_input_details():
            for name, own in self.inputs.items():
                if own["index"] == detail["index"]:
                    shapes[name] = detail["shape_signature"]
        self.is_free = all(shape[0] == -1 for shape in shapes.values())
        self.batch = int(min(shape[0] for shape in shapes.values()))
        self.resized = None
        self.names = list(self.inputs)
        self.answers = [(n, d["index"], d) for n, d in self.outputs.items()]
        # One array as the file takes it needs no more than the runtime.
        self.plain = None
        details = [*self.inputs.values(), *self.outputs.values()]
        scaled = any(detail["quantization"][0] for detail in details)
        if len(self.inputs) == 1 and not self.is_free and not scaled:
            detail = self.inputs[self.names[0]]
            self.plain = tuple(detail["shape"]), np.dtype(detail["dtype"])
            self.plain_input = detail["index"]
            self.plain_answers = [(n, i) for n, i, _ in self.answers]

    # Small models take a few microseconds: what is done here for a single
    # example is counted as theirs.
    def __call__(self, inputs: Any) -> dict[str, np.ndarray]:
        if type(inputs) is np.ndarray and self.plain == (
            inputs.shape,
            inputs.dtype,
        ):
            interpreter = self.interpreter
            interpreter.set_tensor(self.plain_input, inputs)
            interpreter.invoke()
            get = interpreter.get_tensor
            return {name: get(index) for name, index in self.plain_answers}
        named = name_inputs(inputs, self.names)
        for name, detail in self.inputs.items():
            named[name] = _quantize(np.asarray(named[name]), detail)
        rows = len(named[self.names[0]])
        if self.is_free or rows == self.batch:
            return self._invoke(named)
        chunks = []
        for start in range(0, rows, self.batch):
            # The last chunk is filled up with copies of the last row.
            index = np.arange(start, start + self.batch).clip(max=rows - 1)
            chunks.append(self._invoke({k: v[index] for k, v in named.items()}))
        return {
            name: np.concatenate([chunk[name] for chunk in chunks])[:rows]
            for name in self.outputs
        }

    def _invoke(self, named: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.is_free:
            self._resize({n: value.shape for n, value in named.items()})
        interpreter = self.interpreter
        for name, detail in self.inputs.items():
            interpreter.set_tensor(detail["index"], named[name])
        interpreter.invoke()
        answers = {}
        for name, index, detail in self.answers:
            answer = interpreter.get_tensor(index)
            answers[name] = _dequantize(answer, detail)
        return answers

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self.resized:
            return
        for name, shape in shapes.items():
            index = self.inputs[name]["index"]
            self.interpreter.resize_tensor_input(index, shape)
        self.interpreter.allocate_tensors()
        self.resized = shapes


def _quantize(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    dtype = detail["dtype"]
    scale, zero_point = detail["quantization"]
    if scale and np.issubdtype(value.dtype, np.floating):
        limits = np.iinfo(dtype)
        value = np.rint(value / scale) + zero_point
        value = value.clip(limits.min, limits.max)
    return value.astype(dtype, copy=False)


def _dequantize(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return value
    return (value.astype(np.float32) - zero_point) * np.float32(scale)


def _as_array(tensor: tf.Tensor) -> np.ndarray:
    if tensor.dtype in (tf.float16, tf.bfloat16):
        tensor = tf.cast(tensor, tf.float32)
    return tensor.numpy()


def _numbered(outputs: list[Any]) -> list[str]:
    return [f"output_{index}" for index in range(len(outputs))]
