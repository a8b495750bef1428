# SPDX-License-Identifier: Apache-2.0
"""Resident memory while a teacher labels a million samples.

    .venv/bin/python benchmarks/labelling_memory.py
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/labelling_memory.py   # a look

The samples are made as they are read (16 numbers each), so whatever grows
belongs to labelling. Goal: a flat curve. The shards, about 70 MB, go to a
temporary folder.
"""

from __future__ import annotations

import pathlib
import tempfile
import threading
import time

import keras
import tensorflow as tf
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import keep
from _timing import verdict

import keras_kd as kd
from keras_kd.targets.store import shards

SCRIPT = "labelling_memory"
SAMPLES = 100_000 if FAST else 1_000_000
FEATURES, CLASSES, BATCH = 16, 10, 1024
SHARD, POINTS = 4096, 20
FLAT = 10.0  # MB between a tenth of the samples and all


def dataset(samples: int) -> tf.data.Dataset:
    """Returns samples that are a function of their number."""

    def batch(number):
        numbers = number * BATCH + tf.range(BATCH, dtype=tf.int64)
        numbers = numbers[numbers < samples]
        angles = tf.cast(numbers[:, None], tf.float64) * tf.range(
            1.0, FEATURES + 1, dtype=tf.float64
        )
        return tf.cast(tf.sin(angles), tf.float32)

    return tf.data.Dataset.range(-(-samples // BATCH)).map(batch)


def resident() -> float:
    """Returns the resident memory of this process in MB."""
    status = pathlib.Path("/proc/self/status").read_text("ascii")
    line = next(x for x in status.splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def watch(folder: pathlib.Path, curve: list, done: threading.Event) -> None:
    """Notes `(samples labelled, MB)` until `done`, and once more."""
    finished = False
    while not finished:
        finished = done.wait(0.1)
        labelled = len(shards.shards_on_disk(folder)) * SHARD
        curve.append((labelled, resident()))


def measure() -> dict:
    """Returns the curve and what labelling took."""
    teacher = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(CLASSES),
        ]
    )
    curve, done = [], threading.Event()
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory) / "shards"
        watcher = threading.Thread(target=watch, args=(folder, curve, done))
        watcher.start()
        began = time.perf_counter()
        cache = kd.TeacherCache(directory, shard_size=SHARD)
        cache.build(teacher, dataset(SAMPLES), batch_size=BATCH)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        size = cache.info()["bytes_per_sample_and_view"]
        engine = cache.info()["labelled_with"][0]["engine"]
    first = next(mb for count, mb in curve if count >= SAMPLES // 10)
    wanted = [n * SAMPLES // POINTS for n in range(1, POINTS + 1)]
    return {
        "curve": [min(curve, key=lambda c: abs(c[0] - n)) for n in wanted],
        "growth": curve[-1][1] - first,
        "samples_per_second": SAMPLES / seconds,
        "engine": engine,
        "bytes_per_sample": size,
    }


def to_markdown(results: dict) -> str:
    growth = results["growth"]
    points = [f"| {count:,} | {mb:.0f} |" for count, mb in results["curve"]]
    return "\n".join(
        [
            f"# Resident memory while a teacher labels {SAMPLES:,} samples",
            "",
            "| samples labelled | MB |",
            "|---|---|",
            *points,
            "",
            f"From a tenth of the samples to all: {growth:+z.1f} MB, goal at "
            f"most {FLAT:g} MB: {verdict(growth <= FLAT)}. "
            f"{results['samples_per_second']:,.0f} samples a second by "
            f"`{results['engine']}`, {results['bytes_per_sample']} bytes a "
            "sample on disk.",
            "",
            footnote(results),
            "",
        ]
    )


def main() -> None:
    results = {**circumstances(SCRIPT), **measure()}
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
