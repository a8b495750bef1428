# SPDX-License-Identifier: Apache-2.0
"""Measure: what a model, or the file made of it, is really worth."""

from __future__ import annotations

import gzip
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import tasks
from keras_kd.core.folders import work_folder
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import Split
from keras_kd.data.parts import take
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import read_split
from keras_kd.data.splits import split_of
from keras_kd.evaluation import runtimes
from keras_kd.evaluation.judging import judge_by_task
from keras_kd.evaluation.latency import as_metrics
from keras_kd.evaluation.latency import latency as time_artefacts
from keras_kd.evaluation.parameters import count_parameters
from keras_kd.export.manifest import model_files

GZIP_LEVEL = 6


def measure(
    model_or_path: keras.Model | str | os.PathLike,
    data: DataLike | Split,
    *,
    task: tasks.Task | Mapping[str, tasks.Task] | None = None,
    headline: str | None = None,
    outputs: str | Mapping[str, str] | None = None,
    teacher_predictions: Arrays | None = None,
    latency: bool = True,
    batch_size: int = 256,
    repeats: int = 200,
) -> dict[str, Any]:
    """Measures a model or an exported file by running it.

    A file is run by the runtime that will serve it: a SavedModel through its
    serving signature, a .tflite file in LiteRT. So the figures are the
    file's own, not those of the model it was made from. What a model masks
    does not count; a file knows no masks, so give it -1 or a weight of 0 for
    such positions.

    Args:
        model_or_path: `keras.Model`, .keras or .tflite file, or the version
            folder of a SavedModel. A task of KerasHub takes text, too, and is
            then timed with its preprocessor.
        data: A split: arrays `(x, y)` or a batched `tf.data.Dataset`; or
            `keras_kd.Data` (or a dict of splits), whose test split is taken.
        task: What outputs and labels mean, see `keras_kd.tasks`; of several
            outputs a dict of tasks. `None`: inferred, if it is certain.
        headline: Output that a dict of tasks is judged by.
        outputs: What the outputs are, where neither their names nor the model
            nor their values say so: `"logits"` or `"probabilities"`, or a
            dict of these by output.
        teacher_predictions: The teacher's outputs (or class numbers) on the
            same examples in the same order; adds `agreement`. `{"logits":
            array}` or `{"probabilities": array}` says what they are.
        latency: Whether to time single examples, in a fresh process. To
            compare several artefacts, pass `False` here and time them
            together with `keras_kd.evaluation.latency`.
        batch_size: Examples per batch, where `data` is a pair of arrays.
        repeats: Timed runs.

    Returns:
        Plain numbers. A figure that cannot be had is left out.

        - What the task's meter gives, such as `accuracy` as a fraction, and
          `agreement`; see the card of the task. Of a classification also
          `class_accuracy`, a list in the order of the classes.
        - `ece`: expected calibration error in 15 bins of equal width,
          [Guo et al., 2017](https://arxiv.org/abs/1706.04599).
        - `parameters` and `nonzero_parameters`.
        - `bytes` and `gzip_bytes` (level 6): a model is saved as .keras
          without its optimizer, a file counts as it lies there, a folder is
          the sum of its files.
        - With `latency`: `latency_ms_p50`, `latency_ms_p90`,
          `latency_ms_p99` at `latency_batch` 1, `latency_threads`,
          `latency_warmup`, `latency_repeats`, `latency_in_a_row`;
          `throughput_per_second` at `throughput_batch` 32,
          `throughput_repeats`; `peak_memory_bytes` (see
          `keras_kd.evaluation.latency`).

    Raises:
        ValueError: If the artefact, the data and the predictions do not fit
            each other, or the task is not given and not certain.

    Example:

    ```python
    kd.measure(student, data)["accuracy"]
    student.save("student.keras")  # a SavedModel or .tflite would do as well
    kd.measure("student.keras", data)["bytes"]
    ```
    """
    split = read_split(split_of(data, "test"), "data")
    threads = os.cpu_count() or 1
    judged = model_or_path
    if not isinstance(judged, keras.Model):
        if runtimes.kind_of(judged) == "keras":
            judged = keras.models.load_model(judged, compile=False)
    metrics: dict[str, Any] = judge_by_task(
        runtimes.load_runner(judged, threads=threads),
        as_dataset(split, batch_size),
        None if task is None else tasks.get(task, headline),
        model=judged,
        outputs=outputs,
        teacher_predictions=teacher_predictions,
    )
    counts = count_parameters(model_or_path)
    if counts is not None:
        metrics["parameters"], metrics["nonzero_parameters"] = counts
    metrics["bytes"], metrics["gzip_bytes"] = count_bytes(model_or_path)
    metrics = {k: v for k, v in metrics.items() if v is not None}
    if latency:
        times = time_artefacts(
            {"it": model_or_path}, take(split, 32), repeats=repeats
        )
        metrics |= as_metrics(times["it"])
    return metrics


def count_bytes(
    model_or_path: keras.Model | str | os.PathLike,
) -> tuple[int, int]:
    """Returns the bytes of a file, a folder, or a model once saved.

    What `export` puts beside a model (manifest, golden answers, requests to
    warm a server up with) is left out.

    Returns:
        `(bytes, gzip_bytes)`: as it lies there, and with each of its files
        compressed on its own by gzip at level 6, the command's default.
    """
    if isinstance(model_or_path, keras.Model):
        with work_folder() as folder:
            path = folder / "model.keras"
            _save_without_optimizer(model_or_path, path)
            return count_bytes(path)
    files = model_files(model_or_path)
    plain = sum(file.stat().st_size for file in files)
    gzipped = (gzip.compress(file.read_bytes(), GZIP_LEVEL) for file in files)
    return plain, sum(map(len, gzipped))


def _save_without_optimizer(model: keras.Model, path: pathlib.Path) -> None:
    # Cloning or reloading would refuse models with custom layers, and
    # `save` has no option for it.
    optimizer = getattr(model, "optimizer", None)
    try:
        model.optimizer = None
        model.save(path)
    finally:
        model.optimizer = optimizer


def run_over(
    runner: runtimes.Runner, dataset: tf.data.Dataset
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns all outputs by name, and the labels beside them.

    Raises:
        ValueError: If the dataset is empty.
    """
    batches, labels = [], []
    for x, y, *_ in dataset.as_numpy_iterator():
        batches.append(runner(x))
        labels.append(y)
    if not batches:
        raise ValueError(
            "`data` must hold at least one batch of examples. Received: an "
            "empty dataset."
        )
    outputs = {
        name: np.concatenate([batch[name] for batch in batches])
        for name in batches[0]
    }
    return outputs, np.concatenate(labels)
