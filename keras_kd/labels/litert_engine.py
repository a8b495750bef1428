# SPDX-License-Identifier: Apache-2.0
"""A teacher's call as a LiteRT program, for labelling on a CPU.

Only a candidate: what it answers is compared with the teacher's own call
before it labels anything (see `engines`).
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.teachers.base import Teacher

ROWS = 32
"""Samples per invocation. More do not make it faster, and cost memory."""


class LiteRTEngine:
    """Answers batches of any size through LiteRT, on all cores.

    A batch it was not made for, one of another shape or with an input that
    is no number, goes to the teacher's own call: int8 arithmetic would turn
    NaN into ordinary targets.

    Args:
        teacher: The teacher, whose weights are copied.
        call: Its own call, `x -> {tap: tensor}`.
        specs: `tf.TensorSpec` of the inputs, in their nesting; all sizes
            but the batch's must be known.
        calibration: A batch of inputs from which to learn the ranges of
            int8 arithmetic. `None`: float32 arithmetic.

    Raises:
        ValueError: If it would not work for this teacher or these inputs.
        RuntimeError: If LiteRT does not load the converted teacher.
    """

    def __init__(
        self,
        teacher: Teacher,
        call: Callable,
        specs: Any,
        calibration: Any = None,
    ):
        from ai_edge_litert.interpreter import Interpreter

        self._call = call
        self._sizes = [spec.shape[1:] for spec in tf.nest.flatten(specs)]
        if not all(size.is_fully_defined() for size in self._sizes):
            raise ValueError("the size of the inputs is not fixed")
        variables = [v.value for m in teacher.models for v in m.variables]
        content, self._taps = _convert(call, variables, specs, calibration)
        interpreter = Interpreter(
            model_content=content, num_threads=os.cpu_count()
        )
        self._runner = interpreter.get_signature_runner()

    def __call__(self, x) -> dict:
        arrays = [np.asarray(tensor) for tensor in tf.nest.flatten(x)]
        if not self._suits(arrays):
            return self._call(x)
        length = len(arrays[0])
        pieces = [
            self._runner(**_named("input", [_piece(a, row) for a in arrays]))
            for row in range(0, length, ROWS)
        ]
        return {
            tap: np.concatenate([piece[name] for piece in pieces])[:length]
            for name, tap in self._taps.items()
        }

    def _suits(self, arrays):
        pairs = zip(arrays, self._sizes, strict=True)
        return all(
            size == array.shape[1:]
            and (array.dtype.kind != "f" or np.isfinite(array).all())
            for array, size in pairs
        )


def _convert(call, variables, specs, calibration):
    """Returns the program, and which tap each of its outputs is."""
    flat = [
        tf.TensorSpec((ROWS, *spec.shape[1:]), spec.dtype, name=name)
        for name, spec in _named("input", tf.nest.flatten(specs)).items()
    ]
    taps = {}

    def answer(*tensors):
        found = call(tf.nest.pack_sequence_as(specs, tensors))
        outputs = _named("output", list(found.values()))
        taps.update(zip(outputs, found, strict=True))
        return outputs

    module = tf.Module()
    # By hand: a module does not see the weights of a Keras 3 model, and the
    # converter would leave them out without a word.
    module.variables_ = variables
    module.answer = tf.function(answer, input_signature=flat)
    if calibration is not None:
        _refuse_loops(module.answer.get_concrete_function().graph)
    # In memory, so a process that dies leaves no files behind.
    folder = f"ram://keras_kd-{uuid.uuid4().hex}"
    try:
        with warnings.catch_warnings():
            # The calibration's own interpreter is announced as deprecated.
            warnings.simplefilter("ignore")
            tf.saved_model.save(module, folder, signatures=module.answer)
            return _converter(folder, calibration).convert(), taps
    finally:
        if tf.io.gfile.exists(folder):
            tf.io.gfile.rmtree(folder)


def _converter(folder, calibration):
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if calibration is not None:
        arrays = [np.asarray(tensor) for tensor in tf.nest.flatten(calibration)]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            _named("input", [_piece(array, row) for array in arrays])
            for row in range(0, len(arrays[0]), ROWS)
        )
        int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [int8]
    return converter


def _refuse_loops(graph):
    """Raises for a recurrent teacher.

    LiteRT's calibration of an LSTM does not fail, it ends the process.
    """
    found = graph.as_graph_def()
    nodes = [*found.node]
    for function in found.library.function:
        nodes.extend(function.node_def)
    if any(node.op in ("While", "StatelessWhile") for node in nodes):
        raise ValueError("a recurrent teacher cannot be calibrated for int8")


def _named(kind, values):
    return {f"{kind}_{index}": value for index, value in enumerate(values)}


def _piece(array, row):
    """Returns `ROWS` rows; the last one is repeated where rows run out."""
    piece = array[row : row + ROWS]
    if len(piece) == ROWS:
        return piece
    return np.concatenate([piece, np.repeat(piece[-1:], ROWS - len(piece), 0)])
