# SPDX-License-Identifier: Apache-2.0
"""convert(): one call of LiteRT's converter, with the options it needs."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.array_files import save_arrays
from keras_kd.core.file_formats import of_tflite
from keras_kd.core.folders import work_folder
from keras_kd.core.fresh_process import failure_of
from keras_kd.core.passing_faults import is_passing
from keras_kd.core.progress import no_native_notices
from keras_kd.export.formats.int4 import with_int4_weights

INTEGER = tuple(q for q, row in of_tflite().items() if row.is_integer)


def convert(
    saved_model_dir: str | os.PathLike,
    quantize: str | None,
    representative: dict[str, Any] | None = None,
    sparse: bool = False,
) -> bytes:
    """Returns the content of a .tflite file.

    Nothing says yet that it loads: the converter reports success for files
    that do not.

    Args:
        saved_model_dir: What `write_saved_model` wrote.
        quantize: See `write_tflite`.
        representative: Arrays by input name; not needed by a model whose
            ranges were learned (`quantization_aware`).
        sparse: Whether to store kernels as their non-zero values and where
            they are.

    Raises:
        RuntimeError: If the converter refuses the model, or dies of it.
        OSError, MemoryError: If the machine failed it, which is no verdict.
        ImportError: If `"int4"` needs a library that is not installed.
    """
    if quantize == "int4":
        return with_int4_weights(convert(saved_model_dir, None))
    calibrates = quantize in INTEGER and not has_learned_ranges(saved_model_dir)
    if calibrates and _has(saved_model_dir, b"While"):
        # The calibrator of an LSTM ends the process by a segmentation fault.
        return _convert_apart(saved_model_dir, quantize, representative, sparse)
    with no_native_notices():
        return _convert(saved_model_dir, quantize, representative, sparse)


def _convert_apart(saved_model_dir, quantize, representative, sparse):
    """Converts in a process of its own, which may die."""
    with work_folder() as folder:
        rows, result = (os.path.join(folder, n) for n in ("in.npz", "out"))
        save_arrays(rows, representative)
        script = (
            "import os, sys, numpy as np\n"
            "from keras_kd.core.passing_faults import telling_the_parent\n"
            "from keras_kd.core.processes import end_with\n"
            "from keras_kd.export.formats.converting import _convert\n"
            "source, quantize, sparse, rows, result = sys.argv[1:]\n"
            "end_with(os.getppid())\n"
            "with telling_the_parent():\n"
            "  with np.load(rows) as file: rows = dict(file)\n"
            "  content = _convert(source, quantize, rows, sparse == 'True')\n"
            "  with open(result, 'wb') as file: file.write(content)\n"
        )
        options = [str(saved_model_dir), quantize, str(sparse), rows, result]
        failure = failure_of(["-c", script, *options])
        if failure is None:
            return pathlib.Path(result).read_bytes()
    raise RuntimeError(
        f"LiteRT's converter cannot quantise the model (quantize="
        f"{quantize!r}). A recurrent layer can be with unroll=True, in a model "
        "that takes over the weights by set_weights; or export this one with "
        f'"float16" or "dynamic". The process {failure}'
    )


def _convert(saved_model_dir, quantize, representative, sparse):
    # Not from_concrete_functions: given a Keras 3 model it drops all weights
    # and reports success.
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model_dir), signature_keys=["serving_default"]
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantize else []
    if sparse:
        converter.optimizations.append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize in INTEGER and not has_learned_ranges(saved_model_dir):
        converter.representative_dataset = _rows(representative)
        builtins = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [builtins]
    if quantize == "full_int8":
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    try:
        return converter.convert()
    except Exception as error:
        if is_passing(error):
            raise
        raise RuntimeError(
            f"LiteRT's converter refused the model (quantize={quantize!r}). "
            f"{_in_short(str(error))}"
        ) from error


def _in_short(text):
    """Returns what pages of the converter's own notation come down to."""
    unknown = re.search(r"TF Select ops: (.+)", text)
    if unknown:
        return (
            "LiteRT lacks these operations in the form that is used here: "
            f"{unknown[1].strip()}. Leave the layers that use them to the "
            "client, or export a SavedModel only."
        )
    place = re.search(r'fused\["(\w+):", "([^"@]+)@', text)
    reason = re.search(r"\)+: ('[\w.]+' op [^\n]+)", text)
    where = f" {place[1]} in {place[2]}:" if place else ""
    return f"Received:{where} {(reason[1] if reason else text)[:500]}"


def _rows(representative):
    def examples():
        for row in range(len(next(iter(representative.values())))):
            yield {
                name: np.asarray(array[row : row + 1])
                for name, array in representative.items()
            }

    return examples


def has_learned_ranges(saved_model_dir: str | os.PathLike) -> bool:
    """Says whether a SavedModel brings the ranges of its activations.

    It does if it was trained with `quantization_aware`.
    """
    return _has(saved_model_dir, b"FakeQuantWithMinMaxVars")


def _has(saved_model_dir, operation):
    graph = pathlib.Path(saved_model_dir) / "saved_model.pb"
    return operation in graph.read_bytes()


def share_of_zeros(saved_model_dir: str | os.PathLike) -> float:
    """Returns the fraction of zeros in a SavedModel's kernels, in [0, 1]."""
    zeros = total = 0
    for values in _kernels(saved_model_dir):
        zeros += values.size - np.count_nonzero(values)
        total += values.size
    return zeros / total if total else 0.0


def bytes_of_kernels(saved_model_dir: str | os.PathLike) -> int:
    """Returns the size of a SavedModel's kernels."""
    return sum(values.nbytes for values in _kernels(saved_model_dir))


def _kernels(saved_model_dir):
    variables = pathlib.Path(saved_model_dir) / "variables" / "variables"
    if not variables.with_suffix(".index").exists():
        return
    reader = tf.train.load_checkpoint(str(variables))
    for name, shape in reader.get_variable_to_shape_map().items():
        # Vectors (biases, norms) start at zero and are never pruned.
        if len(shape) >= 2:
            yield reader.get_tensor(name)
