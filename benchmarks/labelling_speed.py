# SPDX-License-Identifier: Apache-2.0
"""How fast a teacher labels, against `teacher.predict` in the same run.

    .venv/bin/python benchmarks/labelling_speed.py

Fashion-MNIST recipe's teacher: the one `keras-kd run fashion_mnist` trained
if it is there, else one trained here for one epoch. Ways of labelling run in
turn, in changing order; ratios to `predict` are taken within a round, then
their median. Differences to `predict` are those of all images labelled, most
of which the choice of an engine has not seen. Exits with 1 if the goal, twice
`predict`'s speed with 99.5 % of its decisions, is missed.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from keras_kd import teachers
from keras_kd.labels import engines
from keras_kd.labels.closeness import compare
from keras_kd.recipes import fashion_mnist
from keras_kd.report.environment import describe
from keras_kd.report.environment import environment

ROWS, ROUNDS, BATCH = 10000, 7, 256
BOUND, GOAL = 0.995, 2.0
ROOT = pathlib.Path(__file__).resolve().parents[1]
TRAINED = ROOT / "saved_models/fashion_mnist/stages/trained-teacher.keras"


def trained_teacher() -> keras.Model:
    """Returns the recipe's teacher, trained."""
    if TRAINED.exists():
        print(f"teacher: {TRAINED.relative_to(ROOT)}")
        return keras.models.load_model(TRAINED, compile=False)
    print("teacher: trained here for one epoch")
    teacher = fashion_mnist.build_teacher()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile("adam", loss)
    x, y = fashion_mnist.load_teacher_data().train
    teacher.fit(x, y, batch_size=128, verbose=0)
    return teacher


def main() -> int:
    teacher = trained_teacher()
    x = fashion_mnist.load_data().train[0][:ROWS]
    batches = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)

    def label(engine):
        found = [np.asarray(engine(x)["output"]) for x in batches]
        return np.concatenate(found)

    def predict():
        return teacher.predict(batches, verbose=0)

    ways = {"teacher.predict": predict}
    engine_of = {}
    for agreement in (None, BOUND):
        name = f"agreement={agreement}"
        began = time.perf_counter()
        engine_of[name] = engines.choose(
            teachers.FrozenTeacher(teacher), ["output"], batches, agreement
        )
        print(f"{name}: chosen in {time.perf_counter() - began:.1f} s")
        for row in engine_of[name].measured:
            print(f"    {row}")
        ways[name] = lambda engine=engine_of[name]: label(engine)
    answers = {name: {"output": way()} for name, way in ways.items()}
    seconds = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - began)
    expected, reached = answers.pop("teacher.predict"), False
    predicted = np.array(seconds["teacher.predict"])
    print(
        f"{'teacher.predict':<18}{ROWS / statistics.median(predicted):8.0f}/s"
    )
    for name, found in answers.items():
        ratios = (predicted / np.array(seconds[name])).tolist()
        ratio, close = statistics.median(ratios), compare(expected, found)
        reached |= ratio >= GOAL and close.agreement >= BOUND
        print(
            f"{name:<18}{ROWS / statistics.median(seconds[name]):8.0f}/s "
            f"{ratio:5.2f} x predict ({min(ratios):.2f} to {max(ratios):.2f} "
            f"over {ROUNDS} rounds), {engine_of[name].name}: agreement "
            f"{close.agreement:.4f}, logits off by up to "
            f"{close.largest_difference:.1e}"
        )
    print(f"goal of {GOAL} x: {'reached' if reached else 'missed'}")
    print(describe(environment()))
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
