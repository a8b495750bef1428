# SPDX-License-Identifier: Apache-2.0
"""A teacher's call as a LiteRT program, for labelling on a CPU.

Only a candidate: what it answers is compared with the teacher's own call
before it labels anything (see `engines`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.litert_runner import LiteRTRunner
from keras_kd.core.litert_runner import rows_from
from keras_kd.core.progress import no_native_notices

ROWS = 32
"""Samples per invocation. More do not make it faster, and cost memory."""


class LiteRTEngine:
    """Answers batches of any size through LiteRT, on all cores.

    A batch it was not made for, one of another shape or with an input that
    is no number, goes to the teacher's own call: int8 arithmetic would turn
    NaN into ordinary targets.

    Args:
        call: The teacher's own call, `x -> {tap: tensor}`; the weights it
            uses are copied.
        specs: `tf.TensorSpec` of the inputs, in their nesting; all sizes
            but the batch's must be known.
        calibration: A batch of inputs from which to learn the ranges of
            int8 arithmetic. `None`: float32 arithmetic.

    Raises:
        ValueError: If it would not work for this teacher or these inputs.
        RuntimeError: If LiteRT does not load the converted teacher.
    """

    def __init__(self, call: Callable, specs: Any, calibration: Any = None):
        self._call = call
        self._sizes = [spec.shape[1:] for spec in tf.nest.flatten(specs)]
        if not all(size.is_fully_defined() for size in self._sizes):
            raise ValueError("the size of the inputs is not fixed")
        content, self._taps = _convert(call, specs, calibration)
        with no_native_notices():
            self._run = LiteRTRunner(content, threads=os.cpu_count() or 1)

    def __call__(self, x) -> dict:
        arrays = [np.asarray(tensor) for tensor in tf.nest.flatten(x)]
        if not self._suits(arrays):
            return self._call(x)
        # By name, since LiteRT has an order of its own; an input that the
        # teacher does not use is none of the program's.
        answers = self._run(
            {_name(number): array for number, array in enumerate(arrays)}
        )
        return dict(zip(self._taps, answers.values(), strict=True))

    def _suits(self, arrays):
        pairs = zip(arrays, self._sizes, strict=True)
        return all(
            size == array.shape[1:]
            and (array.dtype.kind != "f" or np.isfinite(array).all())
            for array, size in pairs
        )


def _convert(call, specs, calibration):
    """Returns the program, and the taps that its outputs are, in order."""
    flat = tf.nest.flatten(specs)
    signature = [
        tf.TensorSpec((ROWS, *spec.shape[1:]), spec.dtype, _name(number))
        for number, spec in enumerate(flat)
    ]
    taps = []

    @tf.function(input_signature=signature, autograph=False)
    def answer(*tensors):
        found = call(tf.nest.pack_sequence_as(specs, tensors))
        taps[:] = found
        return list(found.values())

    concrete = answer.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [concrete], tf.Module()
    )
    # Its weights become constants at once. A SavedModel would be written and
    # read three times before they do.
    converter.experimental_lower_to_saved_model = False
    converter.exclude_conversion_metadata = True
    if calibration is not None:
        _refuse_loops(concrete.graph)
        _calibrate(converter, tf.nest.flatten(calibration))
    with warnings.catch_warnings():
        # The calibration's own interpreter is announced as deprecated.
        warnings.simplefilter("ignore")
        with no_native_notices():
            return converter.convert(), taps


def _calibrate(converter, arrays):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rows_from(np.asarray(array), row, ROWS) for array in arrays]
        for row in range(0, len(arrays[0]), ROWS)
    )
    int8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
    converter.target_spec.supported_ops = [int8]


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


def _name(number):
    return f"input_{number}"
