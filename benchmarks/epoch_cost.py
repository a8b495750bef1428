# SPDX-License-Identifier: Apache-2.0
"""What an epoch of distillation costs, as ratios within one run.

    .venv/bin/python benchmarks/epoch_cost.py

Fashion-MNIST recipe's teacher and student on 6,000 random images (the
values do not matter for time). Each way of training is run once to compile,
then in turn; ratios are taken within a round, then their median. The limit
of stored targets is the plain fit; that of a live teacher is its prediction
plus the plain fit.
"""

from __future__ import annotations

import statistics
import time

import keras
import numpy as np

import keras_kd as kd
from keras_kd.labels.attached import attach_targets
from keras_kd.recipes import fashion_mnist
from keras_kd.report.environment import describe
from keras_kd.report.environment import environment

ROWS, ROUNDS, BATCH = 6000, 15, 128


def fits() -> dict:
    """Returns a function of one epoch for each way of training."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(ROWS, 28, 28, 1)).astype("float32")
    y = rng.integers(0, 10, ROWS).astype("int32")
    teacher = fashion_mnist.build_teacher()
    stored = attach_targets(x, {"output": teacher.predict(x, verbose=0)})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain = fashion_mnist.build_student()
    plain.compile("adam", loss, metrics=["accuracy"])
    models = {
        "plain fit": (plain, x),
        "stored targets": (
            kd.Distiller(None, fashion_mnist.build_student()),
            stored,
        ),
        "live teacher": (
            kd.Distiller(teacher, fashion_mnist.build_student()),
            x,
        ),
    }
    epochs = {}
    for name, (model, inputs) in models.items():
        model.compile("adam", loss, metrics=["accuracy"])
        epochs[name] = lambda model=model, inputs=inputs: model.fit(
            inputs, y, batch_size=BATCH, verbose=0
        )
    epochs["teacher.predict"] = lambda: teacher.predict(
        x, batch_size=BATCH, verbose=0
    )
    return epochs


def main() -> None:
    epochs = fits()
    seconds = {name: [] for name in epochs}
    for round_ in range(ROUNDS + 1):
        for name, epoch in epochs.items():
            began = time.perf_counter()
            epoch()
            if round_:  # the first one compiles
                seconds[name].append(time.perf_counter() - began)
    plain = np.array(seconds["plain fit"])
    for name, values in seconds.items():
        ratio = statistics.median(np.array(values) / plain)
        middle = statistics.median(values)
        print(f"{name:<16}{middle:7.2f} s   {ratio:5.2f} x plain fit")
    limit = plain + np.array(seconds["teacher.predict"])
    ratios = np.array(seconds["live teacher"]) / limit
    print(
        f"live teacher / (teacher.predict + plain fit): "
        f"{statistics.median(ratios):.2f} ({ratios.min():.2f} to "
        f"{ratios.max():.2f} over {ROUNDS} rounds)"
    )
    print(describe(environment()))


if __name__ == "__main__":
    main()
