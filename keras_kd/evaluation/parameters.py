# SPDX-License-Identifier: Apache-2.0
"""Parameters: how many numbers an artefact holds, and how many are not 0."""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np

from keras_kd.core.saved_models import load_saved_model
from keras_kd.evaluation import runtimes

DTYPES = "float64 float32 float16 int32 int16 int8 uint8".split()
"""What the weights of a .tflite file may be held in, or in int4."""
FOUR_BITS = np.dtype(np.void)


def count_parameters(
    model_or_path: keras.Model | str | os.PathLike,
) -> tuple[int, int] | None:
    """Counts the parameters of a model or file, and those that are not zero.

    Args:
        model_or_path: `keras.Model`, .keras or .tflite file, or the version
            folder of a SavedModel.

    Returns:
        `(parameters, nonzero_parameters)`. A .tflite file has a few fewer
        than its model, since the converter folds batch normalisation and
        drops biases that are all zero. `None` where they
        cannot be told apart from other constants.
    """
    if isinstance(model_or_path, keras.Model):
        return _count(model_or_path.get_weights())
    kind = runtimes.kind_of(model_or_path)
    if kind == "keras":
        model = keras.models.load_model(model_or_path, compile=False)
        return count_parameters(model)
    if kind == "tflite":
        return _count_tflite(model_or_path)
    loaded = load_saved_model(model_or_path)
    # Counted where they are used: a file may hold a variable twice.
    variables = loaded.signatures[runtimes.SIGNATURE].variables
    weights = [v.numpy() for v in variables if v.dtype.is_floating]
    return _count(weights) if weights else None


def _count(weights: list[np.ndarray]) -> tuple[int, int]:
    total = sum(weight.size for weight in weights)
    nonzero = sum(int(np.count_nonzero(weight)) for weight in weights)
    return int(total), nonzero


def _count_tflite(path: str | os.PathLike) -> tuple[int, int] | None:
    from tensorflow.lite.python import schema_py_generated as schema

    dtypes = {
        getattr(schema.TensorType, name.upper()): np.dtype(name)
        for name in DTYPES
    }
    dtypes[schema.TensorType.INT4] = FOUR_BITS
    content = pathlib.Path(path).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    total = nonzero = 0
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            is_constant = data is not None and len(data) > 0
            dtype = dtypes.get(tensor.type)
            if not is_constant or not _is_weight(tensor, dtype):
                continue
            if dtype is None:
                return None
            values, zero = np.asarray(data, np.uint8), _zero_point(tensor)
            size = int(np.prod(tensor.shape))
            if dtype is FOUR_BITS:  # two to a byte, the first in its low half
                values = np.stack([values & 15, values >> 4], -1).ravel()[:size]
                zero &= 15
            else:
                values = values.view(dtype)
            total += size
            nonzero += int(np.count_nonzero(values != zero))
    return total, nonzero


def _is_weight(tensor, dtype: np.dtype | None) -> bool:
    """Tells a weight from a shape, an axis or a single factor."""
    is_float = dtype is not None and dtype.kind == "f"
    quantization = tensor.quantization
    is_quantized = quantization is not None and quantization.scale is not None
    return (is_float or is_quantized) and int(np.prod(tensor.shape)) > 1


def _zero_point(tensor) -> int:
    quantization = tensor.quantization
    if quantization is None or quantization.zeroPoint is None:
        return 0
    return int(quantization.zeroPoint[0])
