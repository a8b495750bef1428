# SPDX-License-Identifier: Apache-2.0
"""The fresh process that `keras_kd.report.latency` starts."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.report import runtimes


def work(folder: str | os.PathLike) -> None:
    """Answers the request in `folder`: the fresh process' whole task."""
    folder = pathlib.Path(folder)
    request = json.loads((folder / "request.json").read_text("utf-8"))
    threads = request["threads"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    with np.load(folder / "inputs.npz") as stored:
        arrays = [stored[name] for name in stored.files]
    inputs = dict(zip(request["inputs"], arrays, strict=True))
    count = len(arrays[0])
    examples = [
        {name: value[i : i + 1] for name, value in inputs.items()}
        for i in range(count)
    ]
    if list(inputs) == [""]:
        examples = [example[""] for example in examples]
    runs = {}
    for name, path in request["paths"].items():
        runner = runtimes.load_runner(path, threads=threads)
        runs[name] = lambda i, runner=runner: runner(examples[i % count])
    with _no_garbage_collection():
        times = time_in_turn(
            runs, request["repeats"], request["warmup"], request["seconds"]
        )
    answer = {
        name: {
            "p50_ms": float(np.percentile(values, 50)),
            "p90_ms": float(np.percentile(values, 90)),
            "repeats": len(values),
            "threads": threads,
        }
        for name, values in times.items()
    }
    (folder / "answer.json").write_text(json.dumps(answer), "utf-8")


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
) -> dict[str, list[float]]:
    """Calls each function with 0, 1, 2, ... in turn; returns milliseconds.

    Every second round goes backwards, so that none always follows the same
    other one.
    """
    for number in range(warmup):
        for run in runs.values():
            run(number)
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.monotonic() + seconds
    for number in range(repeats):
        if number >= 10 and time.monotonic() > end:
            break
        names = list(runs) if number % 2 == 0 else list(reversed(runs))
        for name in names:
            start = time.perf_counter_ns()
            runs[name](number)
            times[name].append((time.perf_counter_ns() - start) / 1e6)
    return times


if __name__ == "__main__":
    work(sys.argv[1])
