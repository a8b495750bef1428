# SPDX-License-Identifier: Apache-2.0
"""write_tflite(): a .tflite file that LiteRT has loaded and run."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.export._serve import run_tflite
from keras_kd.records import replacing

QUANTIZE = (None, "float16", "dynamic", "int8")
SPARSE_ENOUGH = 0.6

__all__ = ["run_tflite", "share_of_zeros", "write_tflite"]


def write_tflite(
    saved_model_dir: str | os.PathLike,
    path: str | os.PathLike,
    *,
    quantize: str | None = None,
    representative: dict[str, Any] | None = None,
) -> pathlib.Path:
    """Converts a SavedModel to a .tflite file and runs it once.

    The file appears only if LiteRT could load and run it: the converter
    reports success for files that do not load. Where at least 60 % of the
    kernel weights are zero (a pruned model), they are stored sparsely:
    smaller, though not faster.

    Args:
        saved_model_dir: What `write_saved_model` wrote. With `batch_size=1`
            every Keras layer that LiteRT knows converts; with a free batch
            size recurrent layers do not.
        path: Final path; written atomically.
        quantize: `None` (float32), `"float16"` (half the size), `"dynamic"`
            (int8 weights, a quarter) or `"int8"` (int8 weights and
            activations, float inputs and outputs; a quarter, and faster).
        representative: Arrays `(batch, ...)` by input name that look like
            real inputs; `"int8"` takes its ranges from them.

    Returns:
        `path`.

    Raises:
        ValueError: If an option is unknown, or `representative` is missing.
        RuntimeError: If the model does not convert, or LiteRT does not run
            the result.
    """
    check_quantize(quantize)
    if quantize == "int8" and not representative:
        raise ValueError(
            'quantize="int8" needs real inputs to learn the ranges of the '
            "activations. Pass some, for example inputs=x_train[:200]."
        )
    converter = _converter(saved_model_dir, quantize, representative)
    try:
        content = converter.convert()
    except Exception as error:
        raise RuntimeError(
            f"LiteRT's converter refused {saved_model_dir} (quantize="
            f"{quantize!r}). Received: {str(error)[:500]}"
        ) from error
    path = pathlib.Path(path)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        try:
            run_tflite(temporary, _zeros(content))
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(
                "The model converted, but LiteRT cannot run the result "
                f"(quantize={quantize!r}). Received: {error}"
            ) from error
    return path


def check_quantize(quantize: str | None) -> None:
    """Raises ValueError unless `quantize` is a known choice."""
    if quantize not in QUANTIZE:
        raise ValueError(
            f"`quantize` must be one of {QUANTIZE}. Received: {quantize!r}"
        )


def share_of_zeros(saved_model_dir: str | os.PathLike) -> float:
    """Returns the fraction of zeros in a SavedModel's kernels, in [0, 1]."""
    variables = pathlib.Path(saved_model_dir) / "variables" / "variables"
    if not variables.with_suffix(".index").exists():
        return 0.0
    reader = tf.train.load_checkpoint(str(variables))
    shapes = reader.get_variable_to_shape_map()
    zeros = total = 0
    for name, shape in shapes.items():
        # Vectors (biases, norms) start at zero and are never pruned.
        if len(shape) >= 2:
            values = reader.get_tensor(name)
            zeros += values.size - np.count_nonzero(values)
            total += values.size
    return zeros / total if total else 0.0


def _converter(saved_model_dir, quantize, representative):
    # Not from_concrete_functions: given a Keras 3 model it drops all weights
    # and reports success.
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model_dir), signature_keys=["serving_default"]
    )
    optimizations = [tf.lite.Optimize.DEFAULT] if quantize else []
    # With "dynamic" the result would not load ("failed to delegate"), and in
    # int8 the indices cost more than 60 % of zeros save.
    is_sparse = share_of_zeros(saved_model_dir) >= SPARSE_ENOUGH
    if quantize in (None, "float16") and is_sparse:
        optimizations.append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    converter.optimizations = optimizations
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        rows = len(next(iter(representative.values())))

        def examples():
            for row in range(rows):
                yield {
                    name: np.asarray(array[row : row + 1])
                    for name, array in representative.items()
                }

        converter.representative_dataset = examples
        builtins = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [builtins]
    return converter


def _zeros(content):
    from ai_edge_litert.interpreter import Interpreter

    try:
        runner = Interpreter(model_content=content).get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(
            f"The model converted, but LiteRT cannot load it: {error}"
        ) from error
    return {
        name: np.zeros(
            [max(1, size) for size in detail["shape_signature"]],
            detail["dtype"],
        )
        for name, detail in runner.get_input_details().items()
    }
