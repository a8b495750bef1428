# SPDX-License-Identifier: Apache-2.0
"""write_tflite(): a .tflite file that LiteRT has loaded and run."""

from __future__ import annotations

import logging
import os
import pathlib
from typing import Any

import numpy as np

from keras_kd.core.arguments import did_you_mean
from keras_kd.core.array_files import save_arrays
from keras_kd.core.file_formats import of_tflite
from keras_kd.core.folders import work_folder
from keras_kd.core.fresh_process import failure_of
from keras_kd.core.litert_runner import LiteRTRunner
from keras_kd.core.records import replacing
from keras_kd.core.versions import require
from keras_kd.export.formats import trial
from keras_kd.export.formats.converting import INTEGER
from keras_kd.export.formats.converting import bytes_of_kernels
from keras_kd.export.formats.converting import convert
from keras_kd.export.formats.converting import has_learned_ranges
from keras_kd.export.formats.converting import share_of_zeros

require("ai-edge-litert", needed_by="Exporting to LiteRT")

logger = logging.getLogger(__name__)

QUANTIZE = tuple(of_tflite())
SPARSE_ENOUGH = 0.6


def run_tflite(path: str | os.PathLike, inputs: Any) -> dict[str, np.ndarray]:
    """Runs a .tflite file by LiteRT's interpreter, through its signature.

    A file with batch size 1 is asked row by row; the rows of its answers are
    put together again. One whose inputs and outputs are int8 is given, and
    gives, real numbers by its scales.

    Args:
        path: A .tflite file with one signature.
        inputs: Arrays `(batch, ...)` by input name, or one array if the file
            has one input.

    Returns:
        Arrays `(batch, ...)` by output name.

    Raises:
        ValueError: If the names or shapes are not those of the signature.
        RuntimeError: If LiteRT cannot load or run the file.

    Example:

    ```python
    run_tflite("student.tflite", {"image": images})["logits"]
    ```
    """
    return LiteRTRunner(path)(inputs)


def write_tflite(
    saved_model_dir: str | os.PathLike,
    path: str | os.PathLike,
    *,
    quantize: str | None = None,
    representative: dict[str, Any] | None = None,
    sparse: bool | None = None,
) -> pathlib.Path:
    """Converts a SavedModel to a .tflite file and runs it once.

    The file appears only if LiteRT could load and run it, which is tried in
    a process of its own: the converter reports success for files that do not
    load, or that kill who loads them.

    A pruned model is no smaller by itself. Stored sparsely, at 80 % of zeros
    it takes a quarter of the bytes in float32, and no more or less time. In
    integers LiteRT loads sparse convolutions only: keep the Dense layers of
    such a model out of the pruning (`exclude`).

    Args:
        saved_model_dir: What `write_saved_model` wrote. With `batch_size=1`
            every Keras layer that LiteRT knows converts; with a free batch
            size recurrent layers do not.
        path: Final path; written atomically.
        quantize: `None` for float32, or a kind: `export_formats` says what
            each stores. Kernels of float16 take half the bytes, of int8 a
            quarter, of int4 an eighth; `"int8"` is also faster, `"full_int8"`
            is for devices that compute in integers only.
        representative: Arrays `(batch, ...)` by input name that look like
            real inputs; the integer kinds take their ranges from them, and
            the first row tries the file. Not needed for a model that learned
            its ranges, see `quantization_aware`.
        sparse: Whether to store kernels sparsely. `None` does it where at
            least 60 % of their values are zero, and LiteRT loads the result,
            and it is smaller.

    Returns:
        `path`.

    Raises:
        ValueError: If an option is unknown, or `representative` is missing.
        RuntimeError: If the model does not convert; if LiteRT does not run
            the result; if `"float16"` or `"dynamic"` does not make the file
            smaller than float32, `"int4"` not smaller than `"dynamic"`, or
            `sparse=True` not smaller than dense.
        ImportError: If `"int4"` needs a library that is not installed.
    """
    check_quantize(quantize)
    if sparse and quantize == "int4":
        raise ValueError(
            'quantize="int4" stores no sparse kernels. Leave '
            "`sparse` out, or quantise otherwise. Received: sparse=True"
        )
    _check_ranges(saved_model_dir, quantize, representative)
    options = (saved_model_dir, quantize, representative)
    content = convert(*options)
    _check_smaller(saved_model_dir, quantize, content)
    path = pathlib.Path(path)
    enough = share_of_zeros(saved_model_dir) >= SPARSE_ENOUGH
    # LiteRT loads no sparse "dynamic" file: "failed to delegate".
    dense = quantize in ("dynamic", "int4")
    if sparse or (sparse is None and enough and not dense):
        try:
            return _write_sparse(path, options, len(content))
        except RuntimeError:
            # Not asked for: it was a try to make the file smaller.
            if sparse:
                raise
    return _write(path, content, representative)


def check_quantize(quantize: str | None) -> None:
    """Raises ValueError unless `quantize` is a known choice."""
    if quantize not in QUANTIZE:
        raise ValueError(
            f"`quantize` must be one of {QUANTIZE}. Received: {quantize!r}."
            f"{did_you_mean(quantize, filter(None, QUANTIZE))}"
        )


def _check_ranges(saved_model_dir, quantize, representative):
    learned = has_learned_ranges(saved_model_dir)
    if learned and quantize not in INTEGER:
        raise ValueError(
            "A model trained with quantization_aware computes in int8. Use "
            f"`quantize` from {INTEGER}, or convert the student it was made "
            f"of. Received: {quantize!r}"
        )
    if quantize in INTEGER and not (learned or representative):
        raise ValueError(
            f'quantize="{quantize}" needs real inputs to learn the ranges of '
            "the activations. Pass some, for example inputs=x_train[:200]."
        )


def _check_smaller(saved_model_dir, quantize, content):
    if quantize == "int4":
        whole = len(convert(saved_model_dir, "dynamic"))
        if len(content) < whole:
            return
        raise RuntimeError(
            f'quantize="int4" does not make this model smaller: '
            f'{len(content):,} bytes, against {whole:,} by "dynamic", whose '
            "weights are int8. Embeddings stay in float32, and scales take "
            'their room. Use "dynamic".'
        )
    # Larger kernels always shrink; converting them twice only takes time.
    if quantize is None or len(content) < bytes_of_kernels(saved_model_dir):
        return
    if has_learned_ranges(saved_model_dir):
        return
    plain = len(convert(saved_model_dir, None))
    if len(content) < plain:
        return
    numbers = (
        f'quantize="{quantize}" does not make this small model smaller: '
        f"{len(content):,} bytes, against {plain:,} in float32."
    )
    if quantize in INTEGER:
        # Not refused: its arithmetic may be what is wanted.
        logger.warning("%s It may still be faster.", numbers)
        return
    raise RuntimeError(f"{numbers} Leave `quantize` out.")


def _write_sparse(path, options, dense):
    content = convert(*options, sparse=True)
    _, quantize, representative = options
    if len(content) >= dense:
        raise RuntimeError(
            f"Stored sparsely (quantize={quantize!r}) the file would take "
            f"{len(content):,} bytes, stored densely {dense:,}: where the "
            "values are costs more than the zeros save. Prune more, or leave "
            "`sparse` out."
        )
    try:
        return _write(path, content, representative)
    except RuntimeError as error:
        advice = "store it densely"
        if quantize in INTEGER:
            advice += ", or prune with exclude=[its Dense layers]"
        raise RuntimeError(
            f"LiteRT does not load this model stored sparsely (quantize="
            f"{quantize!r}): leave `sparse` out to {advice}. {error}"
        ) from error


def _write(path, content, representative):
    row = {name: a[:1] for name, a in (representative or {}).items()}
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        check_runs(temporary, row)
    return path


def check_runs(
    path: str | os.PathLike,
    request: dict[str, np.ndarray] | None = None,
    timeout: float = 300.0,
) -> None:
    """Loads a .tflite file in a new process and answers a request with it.

    A file that is wrong may abort the process that loads it, so it is never
    loaded first by the one that made it.

    Args:
        path: A .tflite file with one signature.
        request: Arrays by input name. Without it the file answers zeros, if
            its inputs are numbers and of a known size; others are only
            loaded.
        timeout: Seconds that the process may take.

    Raises:
        RuntimeError: If LiteRT cannot load or run the file, or dies of it.
        OSError: If the process took too long or was killed; no verdict.
    """
    arguments = [trial.__file__, os.path.abspath(path)]
    with work_folder() as folder:
        if request:
            arguments.append(os.path.join(folder, "request.npz"))
            save_arrays(arguments[-1], request)
        failure = failure_of(arguments, timeout)
    if failure is not None:
        raise RuntimeError(
            "The model converted, but LiteRT cannot run the result: the "
            f"process {failure}"
        )
