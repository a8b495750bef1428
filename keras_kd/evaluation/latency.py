# SPDX-License-Identifier: Apache-2.0
"""Latency, throughput and memory: artefacts in turn, in a fresh process."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.folders import work_folder
from keras_kd.core.fresh_process import failure_of
from keras_kd.core.model_inputs import inputs_for
from keras_kd.evaluation import runtimes


def latency(
    artefacts: dict[str, keras.Model | str | os.PathLike],
    inputs: Any,
    *,
    repeats: int = 200,
    warmup: int = 20,
    threads: int = 1,
    batch_size: int = 32,
    seconds: float = 60.0,
    in_a_row: int = 10,
    own_inputs: dict[str, Any] | None = None,
) -> dict[str, dict[str, float | int | None]]:
    """Times artefacts side by side in one fresh process.

    Latency is the time of one example, throughput comes from the median time
    of a batch, in a tenth of the runs.

    TensorFlow's threads are set once per process, so a fresh one is needed
    to hold every artefact to the same number. They are run in turn on the
    same examples, ten times each, so that a busy machine slows all of them
    alike and their ratios hold, and a small model is not timed while it
    brings back what a large one pushed out of the processor's cache (the
    p99 shows that). A time is from a NumPy array to a NumPy array, on the CPU.

    Peak memory is what a copy of that process, with TensorFlow imported and
    not yet used, needs in addition (its resident set) to load an artefact
    and to run two single examples. The code of the runtime that is then
    first used is part of it: some 60 MB for TensorFlow, 18 MB for LiteRT.

    Args:
        artefacts: Name to `keras.Model`, .keras or .tflite file, or version
            folder of a SavedModel. A model is timed as a SavedModel of it.
        inputs: Examples to run, as `keras_kd.data.take` returns them: an
            array, or a dict of arrays.
        repeats: Timed runs of each artefact.
        warmup: Runs of each artefact before the clock starts.
        threads: Threads each artefact may use.
        batch_size: Examples in a batch, for the throughput; `inputs` are
            repeated to fill it.
        seconds: Time after which no further runs are started. At least ten
            are made, and three of a batch.
        in_a_row: Single examples that an artefact runs before it is the
            next one's turn.
        own_inputs: As many examples of artefacts that take others than
            `inputs`, by name: files that preprocess take them raw.

    Returns:
        Name to `{"p50_ms", "p90_ms", "p99_ms", "warmup", "repeats",
        "in_a_row", "threads", "throughput_per_second", "throughput_batch",
        "throughput_repeats", "peak_memory_bytes"}`. The memory is `None`
        where the system does not tell it (only Linux does).

    Raises:
        RuntimeError: If an artefact cannot be loaded or run.

    Example:

    ```python
    times = latency({"student": student, "int8": "student.tflite"}, x[:32])
    times["int8"]["p50_ms"]
    ```
    """
    counts = {
        "repeats": repeats,
        "threads": threads,
        "batch_size": batch_size,
        "in_a_row": in_a_row,
    }
    for option, value in counts.items():
        if value < 1:
            raise ValueError(
                f"`{option}` must be at least 1. Received: {value}"
            )
    own = own_inputs or {}
    taken = {name: _named(own.get(name, inputs)) for name in artefacts}
    with work_folder() as folder:
        paths = {}
        for number, (name, artefact) in enumerate(artefacts.items()):
            if isinstance(artefact, keras.Model):
                path = folder / f"model_{number}"
                _write_saved_model(artefact, taken[name], path)
                artefact = path
            runtimes.kind_of(artefact)
            paths[name] = os.path.abspath(artefact)
        # Names may hold anything, so arrays are stored by number.
        np.savez(
            folder / "inputs.npz",
            *(array for arrays in taken.values() for array in arrays.values()),
        )
        request = {
            "paths": paths,
            "inputs": {name: list(arrays) for name, arrays in taken.items()},
            "warmup": warmup,
            "seconds": seconds,
            **counts,
        }
        (folder / "request.json").write_text(json.dumps(request), "utf-8")
        _run_worker(folder, timeout=600 + 10 * seconds)
        return json.loads((folder / "answer.json").read_text("utf-8"))


def as_metrics(times: dict[str, float | int | None]) -> dict:
    """Returns one artefact's `latency` under the names of `measure`."""
    metrics: dict[str, float] = {"latency_batch": 1}
    for name, value in times.items():
        if value is None:
            continue
        if name.endswith("_ms"):
            name = f"ms_{name.removesuffix('_ms')}"
        is_complete = name.startswith(("throughput", "peak"))
        metrics[name if is_complete else f"latency_{name}"] = value
    return metrics


def _run_worker(folder: pathlib.Path, timeout: float) -> None:
    root = str(pathlib.Path(__file__).resolve().parents[2])
    paths = [root, os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    worker = ["-m", "keras_kd.evaluation.latency_worker", str(folder)]
    failure = failure_of(worker, timeout, environment)
    if failure is not None:
        raise RuntimeError(
            "An artefact could not be timed in a fresh process. A .keras file "
            "with custom layers cannot be loaded there: pass the model itself "
            f"instead. The process {failure}"
        )


def _named(inputs: Any) -> dict[str, np.ndarray]:
    """Returns inputs by name, in dtypes that a .npz file can hold."""
    named = inputs if isinstance(inputs, dict) else {"": inputs}
    arrays = {name: np.asarray(value) for name, value in named.items()}
    return {
        name: array.astype("S") if array.dtype == object else array
        for name, array in arrays.items()
    }


def _write_saved_model(
    model: keras.Model, inputs: dict[str, np.ndarray], path: pathlib.Path
) -> None:
    """Writes what a fresh process can run without the model's Python code."""
    specs = {
        name: tf.TensorSpec(
            (None, *value.shape[1:]),
            tf.string if value.dtype.kind in "SU" else value.dtype,
            name=name or "inputs",
        )
        for name, value in inputs.items()
    }
    if list(specs) == [""]:
        specs = specs[""]

    def serve(inputs):
        return model(inputs_for(model, inputs), training=False)

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", serve, input_signature=[specs])
    archive.write_out(path, verbose=False)
