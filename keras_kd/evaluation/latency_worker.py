# SPDX-License-Identifier: Apache-2.0
"""The fresh process that `keras_kd.evaluation.latency` starts."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.interleaved_timing import in_turn
from keras_kd.core.interleaved_timing import seconds_of
from keras_kd.core.passing_faults import telling_the_parent
from keras_kd.core.processes import end_with
from keras_kd.evaluation import runtimes
from keras_kd.evaluation.memory import peak_growth


def work(folder: str | os.PathLike) -> None:
    """Answers the request in `folder`: the fresh process' whole task."""
    folder = pathlib.Path(folder)
    request = json.loads((folder / "request.json").read_text("utf-8"))
    threads = request["threads"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    with np.load(folder / "inputs.npz") as stored:
        arrays = iter([stored[name] for name in stored.files])
    inputs = {
        name: {key: next(arrays) for key in keys}
        for name, keys in request["inputs"].items()
    }
    examples = {name: _examples(own) for name, own in inputs.items()}
    batch_size = request["batch_size"]
    batches = {
        name: _rows(own, [i % len(examples[name]) for i in range(batch_size)])
        for name, own in inputs.items()
    }

    def load(path):
        return runtimes.load_runner(path, threads=threads)

    def run_single(name, runner, number):
        own = examples[name]
        return runner(own[number % len(own)])

    def run_batch(name, runner, number):
        return runner(batches[name])

    def load_and_run(name, path):
        runner = load(path)
        run_single(name, runner, 0)
        run_single(name, runner, 1)

    # First, while this process has not run TensorFlow itself.
    paths = request["paths"]
    peaks = {
        name: peak_growth(partial(load_and_run, name, path))
        for name, path in paths.items()
    }
    runners = {name: load(path) for name, path in paths.items()}
    repeats, warmup = request["repeats"], request["warmup"]
    seconds, in_a_row = request["seconds"], request["in_a_row"]
    with _no_garbage_collection():
        times = time_in_turn(
            {name: partial(run_single, name, r) for name, r in runners.items()},
            repeats,
            warmup,
            seconds,
            in_a_row=in_a_row,
        )
        batch_times = time_in_turn(
            {name: partial(run_batch, name, r) for name, r in runners.items()},
            max(3, repeats // 10),
            max(1, warmup // 10),
            seconds,
            least=3,
        )
    answer = {
        name: {
            "p50_ms": float(np.percentile(values, 50)),
            "p90_ms": float(np.percentile(values, 90)),
            "p99_ms": float(np.percentile(values, 99)),
            "warmup": warmup,
            "repeats": len(values),
            "in_a_row": in_a_row,
            "threads": threads,
            "throughput_per_second": float(
                1000 * batch_size / np.median(batch_times[name])
            ),
            "throughput_batch": batch_size,
            "throughput_repeats": len(batch_times[name]),
            "peak_memory_bytes": peaks[name],
        }
        for name, values in times.items()
    }
    (folder / "answer.json").write_text(json.dumps(answer), "utf-8")


def _examples(inputs: dict[str, np.ndarray]) -> list:
    count = len(next(iter(inputs.values())))
    return [_rows(inputs, [i]) for i in range(count)]


def _rows(inputs: dict[str, np.ndarray], numbers: list[int]) -> Any:
    rows = {name: value[numbers] for name, value in inputs.items()}
    return rows[""] if list(rows) == [""] else rows


@contextlib.contextmanager
def _no_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def time_in_turn(
    runs: dict[str, Callable[[int], Any]],
    repeats: int,
    warmup: int,
    seconds: float = float("inf"),
    least: int = 10,
    in_a_row: int = 1,
) -> dict[str, list[float]]:
    """Calls each function with 0, 1, 2, ... in turn; returns milliseconds.

    After `seconds` no round is started, except until each had its `least`
    calls. A round is `in_a_row` calls of each, one after the other.
    """
    for number in range(warmup):
        for run in runs.values():
            run(number)
    end = time.monotonic() + seconds

    def rounds():
        for first in range(0, repeats, in_a_row):
            if first >= least and time.monotonic() > end:
                return
            yield range(first, min(first + in_a_row, repeats))

    functions = {
        name: lambda numbers, run=run: [seconds_of(run, n) for n in numbers]
        for name, run in runs.items()
    }
    return {
        name: [1e3 * one for times in found for one in times]
        for name, found in in_turn(functions, rounds()).items()
    }


if __name__ == "__main__":
    end_with(os.getppid())
    with telling_the_parent():
        work(sys.argv[1])
