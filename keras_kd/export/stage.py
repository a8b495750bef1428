# SPDX-License-Identifier: Apache-2.0
"""export(): a trained model becomes files that are proven to serve it."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_kd.export.golden import golden_path
from keras_kd.export.golden import write_golden
from keras_kd.export.litert import check_quantize
from keras_kd.export.litert import write_tflite
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publish import check_name
from keras_kd.export.publish import publish
from keras_kd.export.publish import publish_file
from keras_kd.export.retire import check_keep
from keras_kd.export.saved_model import full_precision
from keras_kd.export.saved_model import write_saved_model
from keras_kd.export.signature import answer_function
from keras_kd.export.signature import input_specs
from keras_kd.export.signature import name_inputs
from keras_kd.export.signature import random_batch
from keras_kd.export.staging import staging
from keras_kd.export.verify import verify
from keras_kd.export.warmup import BATCH_SIZES
from keras_kd.export.warmup import check_batch_sizes
from keras_kd.export.warmup import write_warmup
from keras_kd.records import StageRecord
from keras_kd.records import file_sha256

FORMATS = ("saved_model", "tflite")
# Largest difference from the Keras model, relative to the outputs' magnitude.
TOLERANCES = {None: 1e-4, "float16": 1e-2, "dynamic": 0.1, "int8": 0.25}
HALF_PRECISION_TOLERANCE = 1e-2
# Rows that are compared; int8 calibration sees all of `inputs`.
VERIFIED_ROWS = 8


def export(
    model: keras.Model,
    directory: str | os.PathLike,
    name: str | None = None,
    formats: Sequence[str] = FORMATS,
    quantize: str | None = None,
    inputs: Any = None,
    head: str | None = None,
    tolerance: float | None = None,
    verbose: bool = True,
    warmup: int | Sequence[int] | None = BATCH_SIZES,
    keep: int | None = None,
) -> StageRecord:
    """Publishes a model for TensorFlow Serving and for LiteRT.

    Every file is written under a temporary name, loaded in a fresh process
    by the runtime that will serve it, and compared with the model; only if
    all of them pass do they take their final names:

        directory/name/1/               SavedModel, version 1 (then 2, 3, ...)
        directory/name/1/manifest.json  sha256 of its files
        directory/name/1/golden.npz     requests and answers, see verify
        directory/name/1/assets.extra   warm-up records, see write_warmup
        directory/name/name.tflite      LiteRT, replaced by each export
        directory/name/name.tflite.{manifest.json,golden.npz}

    The .tflite file has batch size 1, as LiteRT needs for recurrent layers
    and for its fast kernels; the SavedModel takes any batch.

    Args:
        model: Any Keras model that is built: functional, sequential, or
            subclassed and called before.
        directory: Folder of all exported models, such as `"saved_models"`.
        name: Name of this one: letters, digits, `_` and `-`. Defaults to the
            model's own name.
        formats: One or both of `"saved_model"` and `"tflite"`.
        quantize: For the .tflite file: `None`, `"float16"`, `"dynamic"` or
            `"int8"`. The SavedModel stays as it is.
        inputs: A batch of what the model takes; the answers to its first
            rows are compared. Needed for `"int8"` (some hundred real
            examples) and for subclassed models of integer inputs; else
            defaults to a random batch.
        head: What the model's output is: `"logits"`, `"probabilities"` or
            `"regression"`; `None` reads it from the last activation.
        tolerance: Largest difference allowed, relative to the magnitude of
            an output. Defaults to 1e-4 in float32, 1e-2 in float16, 0.1 for
            `"dynamic"` and 0.25 for `"int8"`.
        verbose: Whether to print a line per step.
        warmup: Batch sizes for which the SavedModel gets warm-up records;
            `None` for none.
        keep: How many sound versions of the SavedModel to keep, this one
            included; older ones are removed. `None` keeps all.

    Returns:
        A `StageRecord`. Its metrics hold for each format the size in bytes
        and the largest absolute difference from the model; its artefacts
        are relative to `directory`.

    Raises:
        ValueError: If an option is wrong, or a file does not verify
            (`VerificationError`). Nothing is published then.
        RuntimeError: If the model does not convert to LiteRT.

    Example:

    ```python
    record = kd.export(student, "saved_models", name="student")
    record.metrics["saved_model"]["max_difference"]
    ```
    """
    started = time.time()
    name = check_name(model.name if name is None else name)
    formats = _check_formats(formats)
    check_quantize(quantize)
    check_keep(keep)
    batch_sizes = check_batch_sizes(warmup)
    base_dir = pathlib.Path(directory) / name
    if base_dir.is_symlink():
        raise ValueError(
            f"{base_dir} is a link to another place. Expected a folder that "
            "the export may write to. Choose another `name`."
        )
    if quantize == "int8" and inputs is None:
        raise ValueError(
            'quantize="int8" needs real inputs to learn the ranges of the '
            "activations. Pass some, for example inputs=x_train[:200]."
        )

    def say(text):
        if verbose:
            print(f"export {name}: {text}", flush=True)

    specs = input_specs(model, inputs)
    batch = random_batch(specs) if inputs is None else inputs
    batch = name_inputs(specs, batch)
    sample = {key: array[:VERIFIED_ROWS] for key, array in batch.items()}
    options = {"head": head, "inputs": inputs}
    staged, metrics = {}, {}
    with staging(base_dir) as folder, staging(base_dir) as lite_folder:
        if "saved_model" in formats:
            say("writing the SavedModel")
            staged["saved_model"] = write_saved_model(model, folder, **options)
            if batch_sizes:
                write_warmup(folder, sample, batch_sizes, name)
        if "tflite" in formats:
            say(f"converting to LiteRT (quantize={quantize})")
            with full_precision(model):
                lite_source = lite_folder / "saved_model"
                write_saved_model(model, lite_source, batch_size=1, **options)
            staged["tflite"] = write_tflite(
                lite_source,
                lite_folder / f"{name}.tflite",
                quantize=quantize,
                representative=batch,
            )
        expected = _answers(model, head, specs, sample)
        for kind, path in staged.items():
            lite = kind == "tflite"
            allowed = tolerance
            if allowed is None:
                allowed = _tolerance(model, quantize if lite else None)
            digest = file_sha256(path) if lite else ""
            write_golden(path, sample, expected, allowed, digest)
            write_manifest(path)
            say(f"verifying the {kind} in a fresh process")
            metrics[kind] = {
                "bytes": _size(path),
                "max_difference": verify(path, sample, expected, allowed),
                "tolerance": allowed,
            }
            say(
                f"{kind}: {metrics[kind]['bytes']:,} bytes, differs by "
                f"{metrics[kind]['max_difference']:.2g} at most"
            )
        published = []
        if "saved_model" in staged:
            version = publish(staged["saved_model"], base_dir, keep)
            metrics["saved_model"]["version"] = int(version.name)
            published += sorted(p for p in version.rglob("*") if p.is_file())
            say(f"published {version}")
        if "tflite" in staged:
            metrics["tflite"]["quantize"] = quantize
            target = base_dir / f"{name}.tflite"
            # Golden answers name the file they belong to, so a kill between
            # the two renames is noticed by whoever replays them.
            os.replace(golden_path(staged["tflite"]), golden_path(target))
            published.append(publish_file(staged["tflite"], target))
            say(f"published {target}")
    artefacts = {
        path.relative_to(directory).as_posix(): file_sha256(path)
        for path in published
    }
    return StageRecord(
        stage="export",
        name=name,
        settings={
            "formats": formats,
            "quantize": quantize,
            "head": head,
            "warmup": list(batch_sizes),
        },
        metrics=metrics,
        artefacts=artefacts,
        seconds=time.time() - started,
    )


def _check_formats(formats):
    chosen = [formats] if isinstance(formats, str) else list(formats)
    if not chosen or not set(chosen) <= set(FORMATS):
        raise ValueError(
            f"`formats` must be one or more of {FORMATS}. Received: {formats!r}"
        )
    return sorted(set(chosen))


def _answers(model, head, specs, sample):
    """Returns what the Keras model itself answers, as arrays by name."""
    tensors = [
        tf.convert_to_tensor(sample[spec.name])
        for spec in keras.tree.flatten(specs)
    ]
    answer = answer_function(model, head)
    outputs = answer(keras.tree.pack_sequence_as(specs, tensors))
    return {key: tensor.numpy() for key, tensor in outputs.items()}


def _tolerance(model, quantize):
    is_half = keras.backend.standardize_dtype(model.compute_dtype) in (
        "float16",
        "bfloat16",
    )
    floor = HALF_PRECISION_TOLERANCE if is_half else 0.0
    return max(TOLERANCES[quantize], floor)


def _size(path):
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
