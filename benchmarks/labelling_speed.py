# SPDX-License-Identifier: Apache-2.0
"""How fast a teacher labels, against `teacher.predict` in the same run.

    .venv/bin/python benchmarks/labelling_speed.py
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/labelling_speed.py    # a look

The CNN teacher of Fashion-MNIST, trained here. Ways of labelling run in turn,
in changing order; ratios to `predict` are taken within a round, then their
median. Differences to `predict` are those of all images labelled, most of
which the choice of an engine has not seen.
"""

from __future__ import annotations

import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from _pairs import REAL_PAIRS
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import ratio
from _timing import seconds_of
from _timing import spread
from _timing import verdict

from keras_kd import teachers
from keras_kd.targets.inference import engines

SCRIPT = "labelling_speed"
ROWS, ROUNDS, BATCH = (3000, 2, 256) if FAST else (20_000, 7, 256)
TRAIN_ON, EPOCHS = (1000, 1) if FAST else (30_000, 8)
BOUND, GOAL = 0.995, 2.0
PREDICT = "teacher.predict"
BOUNDS = {"the teacher's own": None, f"agreement of {BOUND:.1%}": BOUND}


def measure() -> dict:
    """Returns speeds and differences of each bound."""
    keras.utils.set_random_seed(0)
    pair = REAL_PAIRS["small"]
    x, y = pair.images(60_000)
    teacher = pair.trained_teacher(x[:TRAIN_ON], y[:TRAIN_ON], EPOCHS)
    x = x[-ROWS:]  # not what it learned from
    batches = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)

    def label(engine):
        found = engine.answers((x, None) for x in batches)
        return np.concatenate([np.asarray(a["output"]) for a, _ in found])

    def predict():
        return teacher.predict(batches, verbose=0)

    ways, chosen = {PREDICT: predict}, {}
    for name, agreement in BOUNDS.items():
        began = time.perf_counter()
        engine = engines.choose(
            teachers.FrozenTeacher(teacher), ["output"], batches, agreement
        )
        chosen[name] = {
            "engine": engine.name,
            "asked_again": engine.asked_again,
            "seconds_to_choose": time.perf_counter() - began,
            "compared": engine.compared,
        }
        ways[name] = lambda engine=engine: label(engine)
    answers = {name: way() for name, way in ways.items()}
    timed = {name: seconds_of(way) for name, way in ways.items()}
    seconds = in_turn(timed, ROUNDS)
    for name, facts in chosen.items():
        logits, own = answers[name], answers[PREDICT]
        facts |= {
            "samples_per_second": ROWS / statistics.median(seconds[name]),
            "times_faster": ratio(seconds[PREDICT], seconds[name]),
            "agreement": float((logits.argmax(1) == own.argmax(1)).mean()),
            "largest_difference": float(np.abs(logits - own).max()),
        }
    return {
        "seconds": seconds,
        "samples_per_second": ROWS / statistics.median(seconds[PREDICT]),
        "chosen": chosen,
    }


def to_markdown(results: dict) -> str:
    lines, reached = [], False
    for name, row in results["chosen"].items():
        fast = row["times_faster"]["median"] >= GOAL
        reached |= fast and row["agreement"] >= BOUND
        engine = row["engine"]
        if row["asked_again"]:
            engine += f", the teacher for {row['asked_again']:.1%}"
        lines.append(
            f"| {name} | {engine} | {row['samples_per_second']:,.0f} | "
            f"{spread(row['times_faster'])} x | {row['agreement']:.2%} | "
            f"{row['largest_difference']:.1e} | "
            f"{row['seconds_to_choose']:.1f} s |"
        )
    return "\n".join(
        [
            "# How fast a teacher labels",
            "",
            "The CNN teacher of Fashion-MNIST (279,434 weights) on "
            f"{ROWS:,} images, in batches of {BATCH}; `teacher.predict` does "
            f"{results['samples_per_second']:,.0f} a second. Median (lowest "
            f"to highest) of {ROUNDS} rounds; agreement and largest "
            "difference of logits over all images.",
            "",
            "| bound | engine chosen | samples/s | against predict | "
            "agreement | largest difference | choosing took |",
            "|---|---|---|---|---|---|---|",
            *lines,
            "",
            f"{GOAL:g} times `predict` with an agreement of at least "
            f"{BOUND:.1%}: {verdict(reached)}.",
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
