# SPDX-License-Identifier: Apache-2.0
"""What the index of a cache takes at up to 10 million samples.

    .venv/bin/python benchmarks/cache_index.py      # 10 minutes on two cores
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/cache_index.py      # a look

Each size is a process of its own: a cache of so many samples is built, opened
and attached to a stream of batches. Memory is what the process takes more
once the index is there. Up to 1.2 GB of disk in a temporary folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import keep
from labelling_memory import resident

import keras_kd as kd
from keras_kd.targets.hashing.index import FingerprintIndex

SCRIPT = "cache_index"
SIZES = (10_000, 100_000) if FAST else (100_000, 1_000_000, 10_000_000)
CLASSES, BATCH, SHARD, LOOKED_UP = 4, 8192, 4096, 50


def dataset(samples: int, batch: int) -> tf.data.Dataset:
    """Returns two numbers for each sample, which tell it from all others."""

    def numbers(first):
        of = first + tf.range(
            tf.minimum(tf.cast(batch, "int64"), samples - first)
        )
        return tf.stack([of // 4096, of % 4096], axis=1)

    firsts = tf.data.Dataset.range(0, samples, batch)
    return firsts.map(lambda first: tf.cast(numbers(first), "float32"))


def measure(samples: int) -> dict:
    """Returns the figures of one size, measured in this process."""
    teacher = keras.Sequential([keras.Input((2,)), keras.layers.Dense(CLASSES)])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        cache = kd.TeacherCache(folder, shard_size=SHARD)
        cache.build(
            teacher, dataset(samples, BATCH), batch_size=4096, verbose=0
        )
        found = {"samples": samples, "build": time.perf_counter() - began}
        marks, before, began = (
            cache.fingerprints,
            resident(),
            time.perf_counter(),
        )
        index = FingerprintIndex(marks)
        found["index"] = time.perf_counter() - began
        found["index_mb"] = resident() - before
        asked = np.random.default_rng(0).choice(marks, (LOOKED_UP, 256))
        index.find(asked[0])
        began = time.perf_counter()
        for batch in asked:
            index.find(batch)
        found["find_us"] = (time.perf_counter() - began) / LOOKED_UP * 1e6
        del index
        before, began = resident(), time.perf_counter()
        stream = kd.TeacherCache.open(folder).attach(dataset(samples, 256))
        found["attach"] = time.perf_counter() - began
        found["attach_mb"] = resident() - before
        batches = iter(stream)
        next(batches)
        began = time.perf_counter()
        count = min(LOOKED_UP, samples // 256 - 1)
        for _ in range(count):
            next(batches)
        found["batch_us"] = (time.perf_counter() - began) / count * 1e6
        found["disk_mb"] = cache.info()["bytes"] / 2**20
    return found


def to_markdown(results: dict) -> str:
    rows = [
        f"| {r['samples']:,} | {r['build']:.1f} | {r['disk_mb']:.0f} | "
        f"{r['index']:.2f} | {r['index_mb']:.0f} | {r['find_us']:.0f} | "
        f"{r['attach']:.1f} | {r['attach_mb']:.0f} | {r['batch_us']:.0f} |"
        for r in results["sizes"]
    ]
    return "\n".join(
        [
            "# The index of a cache, by its size",
            "",
            f"{CLASSES} numbers of float16 for each sample, shards of "
            f"{SHARD:,}, lookups in batches of 256.",
            "",
            "| samples | build (s) | disk (MB) | index (s) | index (MB) | "
            "lookup of a batch (µs) | attach (s) | attach (MB) | "
            "attached batch (µs) |",
            "|---:|" + "---:|" * 8,
            *rows,
            "",
            footnote(results),
            "",
        ]
    )


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
        return
    results = {**circumstances(SCRIPT), "sizes": []}
    for size in SIZES:
        run = subprocess.run(
            [sys.executable, __file__, str(size)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        results["sizes"].append(json.loads(run.stdout.splitlines()[-1]))
        print(results["sizes"][-1], flush=True)
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
