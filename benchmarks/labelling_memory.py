# SPDX-License-Identifier: Apache-2.0
"""Resident memory while a teacher labels a million samples.

    .venv/bin/python benchmarks/labelling_memory.py [samples]

The samples are made as they are read (16 numbers each), so whatever grows
belongs to labelling. Goal: a flat curve. The shards, about 70 MB, go to a
temporary folder.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile
import threading
import time

import keras
import tensorflow as tf

import keras_kd as kd
from keras_kd.labels import shards
from keras_kd.report.environment import describe
from keras_kd.report.environment import environment

SAMPLES, FEATURES, CLASSES, BATCH = 1_000_000, 16, 10, 1024
SHARD, POINTS = 4096, 20


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


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
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
        cache.build(teacher, dataset(samples), batch_size=BATCH)
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
        size = cache.info()["bytes_per_sample_and_view"]
        engine = cache.info()["labelled_with"][0]["engine"]
    print(f"{'samples':>10}{'MB':>8}")
    for point in range(1, POINTS + 1):
        wanted = point * samples // POINTS
        labelled, memory = min(curve, key=lambda c: abs(c[0] - wanted))
        print(f"{labelled:>10,}{memory:>8.0f}")
    first = [mb for count, mb in curve if count >= samples // 10][0]
    print(
        f"growth from a tenth of the samples to all: "
        f"{curve[-1][1] - first:+.0f} MB"
    )
    print(
        f"{samples / seconds:,.0f} samples/s by {engine!r}, {size} bytes a "
        "sample on disk"
    )
    print(describe(environment()))


if __name__ == "__main__":
    main()
