# SPDX-License-Identifier: Apache-2.0
"""How long a training waits for its first step, as ratios within one run.

    .venv/bin/python benchmarks/first_step.py   # four minutes on two cores
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/first_step.py     # a look

A ResNet50 teaches a MobileNetV2, on one batch of two small images: next to
nothing but the making of the graph. All in turn, each time with new models
and a new `compile`: `fit` of the student alone, `kd.Distiller`, and Keras' own
`keras.distillation.Distiller`.
"""

from __future__ import annotations

import time

import keras
import numpy as np
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import ratio
from _timing import spread

import keras_kd as kd

SCRIPT = "first_step"
ROUNDS = 1 if FAST else 5
SIZE, CLASSES = (32, 32, 3), 10
PLAIN, OURS, KERAS = "student.fit", "kd.Distiller", "keras.distillation"


def student() -> keras.Model:
    return keras.applications.MobileNetV2(
        input_shape=SIZE,
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
    )


def teacher() -> keras.Model:
    return keras.applications.ResNet50(
        input_shape=SIZE,
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
    )


def main() -> None:
    big = teacher()
    x = np.random.default_rng(0).uniform(size=(2, *SIZE)).astype("float32")
    y = np.arange(2, dtype="int32")
    makers = {
        PLAIN: student,
        OURS: lambda: kd.Distiller(big, student()),
        KERAS: lambda: keras.distillation.Distiller(
            big,
            student(),
            distillation_losses=keras.distillation.LogitsDistillation(
                loss="kl_divergence", temperature=4.0
            ),
        ),
    }

    def first_step(make):
        keras.utils.clear_session()
        model = make()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        began = time.perf_counter()
        model.fit(x, y, batch_size=2, verbose=0)
        return time.perf_counter() - began

    seconds = in_turn(
        {
            name: lambda make=make: first_step(make)
            for name, make in makers.items()
        },
        ROUNDS,
    )
    results = {
        **circumstances(SCRIPT),
        "seconds": seconds,
        "ratios": {
            f"{name} / {PLAIN}": ratio(seconds[name], seconds[PLAIN])
            for name in (OURS, KERAS)
        }
        | {f"{OURS} / {KERAS}": ratio(seconds[OURS], seconds[KERAS])},
    }
    keep(SCRIPT, results, to_markdown(results))


def to_markdown(results: dict) -> str:
    rows = [
        f"| {name} | {min(values):.1f} s |"
        for name, values in results["seconds"].items()
    ]
    ratios = [
        f"| {name} | {spread(found)} |"
        for name, found in results["ratios"].items()
    ]
    return "\n".join(
        [
            "# Waiting for the first step",
            "",
            "`fit` of one batch of two 32 x 32 images by a new model: the "
            "making of the graph. A ResNet50 teaches a MobileNetV2. Lowest of "
            f"{ROUNDS} rounds; ratios within a round as median (lowest to "
            "highest).",
            "",
            "| | seconds |",
            "|---|---|",
            *rows,
            "",
            "| ratio | |",
            "|---|---|",
            *ratios,
            "",
            footnote(results),
            "",
        ]
    )


if __name__ == "__main__":
    main()
