# SPDX-License-Identifier: Apache-2.0
"""Which operations of TensorFlow a step of the small transformer consists of.

    .venv/bin/python benchmarks/step_profile.py      # a minute
    TF_NUM_INTRAOP_THREADS=1 .venv/bin/python benchmarks/step_profile.py

The transformer of `pytorch_loop.py` learns from stored logits, by `fit`: as
Keras has it, with layer norm and GELU whose gradients are written by hand
(`_fused.py`), and compiled by XLA. The table is what TensorFlow's profiler says
of each kind of operation in the first; processor time is that of the process.
"""

from __future__ import annotations

import collections
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from _fused import fused
from _pairs import CLASSES
from _pairs import random_words
from _pairs import transformer
from tensorflow.tsl.profiler.protobuf import xplane_pb2

import keras_kd as kd

BATCH, STEPS, ROUNDS, SHOWN = 128, 32, 5, 12


def operations(folder: str) -> collections.Counter:
    """Returns milliseconds and calls of each kind, of a profile."""
    found: collections.Counter = collections.Counter()
    (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        for event in (e for line in plane.lines for e in line.events):
            name = plane.event_metadata[event.metadata_id].name
            node, _, kind = name.rpartition(":")
            if node:  # "its name in the graph:its kind"
                found[kind, "ms"] += event.duration_ps / 1e9
                found[kind, "calls"] += 1
    return found


def main() -> None:
    keras.utils.set_random_seed(0)
    x = random_words(BATCH * STEPS)
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, len(x))
    logits = rng.normal(size=(len(x), CLASSES)).astype("float32")
    data = kd.attach_targets(x, logits, "logits")
    student = transformer(32, 2, 2)
    by_hand = fused(student)
    np.testing.assert_allclose(student(x[:8]), by_hand(x[:8]), atol=1e-5)

    def epoch_of(student, jit_compile=False):
        distiller = kd.Distiller(None, student, 4.0, 0.7)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(
            "adam", loss, metrics=["accuracy"], jit_compile=jit_compile
        )
        return lambda: distiller.fit(data, y, batch_size=BATCH, verbose=0)

    epochs = {
        "Keras": epoch_of(student),
        "by hand": epoch_of(by_hand),
        "XLA": epoch_of(keras.models.clone_model(student), jit_compile=True),
    }
    times: dict[str, list] = {name: [] for name in epochs}
    for number in range(1 + ROUNDS):
        for name, epoch in epochs.items():
            began = time.perf_counter(), time.process_time()
            epoch()
            ended = time.perf_counter(), time.process_time()
            if number:  # the first compiles
                times[name].append(np.subtract(ended, began))
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        epochs["Keras"]()
        tf.profiler.experimental.stop()
        found = operations(folder)
    print("\n| step | by the clock, ms | processor, ms |\n|:---|---:|---:|")
    for name, taken in times.items():
        wall, busy = 1e3 * np.median(taken, axis=0) / STEPS
        print(f"| {name} | {wall:.1f} | {busy:.1f} |")
    print("\n| operation | in a step | ms |\n|:---|---:|---:|")
    kinds = {kind for kind, _ in found}
    for kind in sorted(kinds, key=lambda k: -found[k, "ms"])[:SHOWN]:
        ms, calls = (found[kind, what] / STEPS for what in ("ms", "calls"))
        print(f"| {kind} | {calls:.0f} | {ms:.2f} |")


if __name__ == "__main__":
    main()
