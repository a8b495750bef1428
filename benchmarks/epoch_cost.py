# SPDX-License-Identifier: Apache-2.0
"""What an epoch of distillation costs, as ratios within one run.

    .venv/bin/python benchmarks/epoch_cost.py   # 15 minutes on two cores
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/epoch_cost.py     # a look

Three pairs of models on random inputs (values do not matter for time), as
many of them as a plain `student.fit` does in about three seconds. Each way
of training runs once to compile, then all of them in turn:

    plain fit        student.fit(x, y): the limit of stored targets
    cache            Distiller(None, student) on TeacherCache.attach(...)
    attached arrays  the same on attach_targets(x, all the teacher's logits)
    live teacher     Distiller(teacher, student); the limit is
                     teacher.predict(x) and a plain fit

The first two also with the settings of the step that `kd.fastest_step` chose
for each by measurement, among those that change no number.
"""

from __future__ import annotations

import os
import statistics
import tempfile

import keras
import numpy as np
from _pairs import CLASSES
from _pairs import PAIRS
from _pairs import Pair
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import ratio
from _timing import seconds_of
from _timing import spread
from _timing import verdict

import keras_kd as kd
from keras_kd.targets.attached import attach_targets

SCRIPT = "epoch_cost"
ROUNDS, BATCH, SECONDS = (3, 128, 0.2) if FAST else (7, 128, 2.5)
GOAL = 1.05
PLAIN, CACHE, ARRAYS = "plain fit", "cache", "attached arrays"
LIVE, PREDICT = "live teacher", "teacher.predict"
MEASURED = "measured step"


def compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def labels(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, CLASSES, count).astype("int32")


def rows_for(pair: Pair, seconds: float) -> int:
    """Returns how many samples a plain epoch of that length has."""
    count = 20 * BATCH
    student, x = compiled(pair.build_student()), pair.inputs(count)

    def epoch():
        student.fit(x, labels(count), batch_size=BATCH, verbose=0)

    epoch()  # compiles
    took = min(seconds_of(epoch)() for _ in range(3))
    return BATCH * max(20, round(20 * seconds / took))


def measure(pair: Pair) -> dict:
    """Returns the seconds and ratios of each way to train a pair."""
    keras.utils.set_random_seed(0)
    rows = rows_for(pair, SECONDS)
    x, y = pair.inputs(rows), labels(rows)
    teacher = pair.build_teacher()
    logits = teacher.predict(x, batch_size=BATCH, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        cache = kd.TeacherCache(os.path.join(folder, "labels"))
        cache.build(teacher, (x, y), verbose=False)
        cached = cache.attach((x, y), batch_size=BATCH, shuffle=True, seed=0)
        ways = {
            PLAIN: (pair.build_student(), (x, y)),
            CACHE: (kd.Distiller(None, pair.build_student()), (cached,)),
            ARRAYS: (
                kd.Distiller(None, pair.build_student()),
                (attach_targets(x, {"output": logits}), y),
            ),
            LIVE: (kd.Distiller(teacher, pair.build_student()), (x, y)),
        }
        epochs = {name: epoch_of(*way) for name, way in ways.items()}
        student_of = {
            PLAIN: lambda model: model,
            CACHE: lambda model: kd.Distiller(None, model),
        }
        chosen = {}
        for name in (PLAIN, CACHE):
            # A set of its own to measure with: sets count their epochs.
            sample = (x, y) if name == PLAIN else cache.attach((x, y), BATCH)
            model = compiled(student_of[name](pair.build_student()))
            settings = kd.fastest_step(model, sample, BATCH)
            chosen[name] = str(settings)
            data = ways[name][1]
            epochs[f"{name}, {MEASURED}"] = epoch_of(model, data, settings)
        epochs[PREDICT] = seconds_of(
            lambda: teacher.predict(x, batch_size=BATCH, verbose=0)
        )
        seconds = in_turn(epochs, ROUNDS, warm_up=1)
    student = ways[PLAIN][0]
    limit = [
        prediction + fit
        for prediction, fit in zip(
            seconds[PREDICT], seconds[PLAIN], strict=True
        )
    ]
    return {
        "samples": rows,
        "weights": [teacher.count_params(), student.count_params()],
        "seconds": seconds,
        "ratios": {
            name: ratio(values, seconds[PLAIN])
            for name, values in seconds.items()
        },
        "live_to_limit": ratio(seconds[LIVE], limit),
        "step": chosen,
        "same_step": ratio(
            seconds[f"{CACHE}, {MEASURED}"], seconds[f"{PLAIN}, {MEASURED}"]
        ),
    }


def epoch_of(model, data, settings=None):
    compiled(model)
    if settings is not None:
        settings.apply(model)
    # Arrays are shuffled by `fit`, a data set has been shuffled by `attach`.
    size = {"shuffle": False}
    if len(data) > 1:
        size = {"batch_size": BATCH}
    return seconds_of(lambda: model.fit(*data, **size, verbose=0))


def to_markdown(results: dict) -> str:
    lines = []
    for name, pair in results["pairs"].items():
        ratios, live = pair["ratios"], pair["live_to_limit"]
        same = pair["same_step"]
        plain = statistics.median(pair["seconds"][PLAIN])
        teacher, student = pair["weights"]
        lines.append(
            f"| {name} ({teacher:,} to {student:,} weights, "
            f"{pair['samples']:,} samples) | {plain:.2f} s | "
            f"{spread(ratios[CACHE])}, "
            f"{verdict(ratios[CACHE]['median'] <= GOAL)} | "
            f"{spread(ratios[f'{CACHE}, {MEASURED}'])} | {spread(same)} | "
            f"{spread(ratios[ARRAYS])} | {spread(ratios[LIVE])} | "
            f"{spread(live)}, {verdict(live['median'] <= GOAL)} |"
        )
    return "\n".join(
        [
            "# What an epoch of distillation costs",
            "",
            "Epochs over one of a plain `student.fit` in the same round: "
            f"median (lowest to highest) of {results['rounds']} rounds. Goals: "
            f"cache / plain fit <= {GOAL}, and live teacher / "
            f"(`teacher.predict` + plain fit) <= {GOAL}. Inputs are random "
            "images and random word ids, and the models are not trained: that "
            "does not matter for time. A plain fit runs single steps and "
            "Keras' batch norm; a distiller's fit runs up to 16 steps together "
            "and TensorFlow's fused kernel, so it can take less than its "
            "limit. The column of the measured step gives both the steps "
            "together.",
            "",
            "| pair | plain fit | cache | cache, measured step / plain fit | "
            "cache / plain fit, both at the measured step | attached arrays | "
            "live teacher | live / (predict + plain) |",
            "|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            "What was measured to be the fastest step (no number changes by "
            "it):",
            "",
            *chosen_steps(results),
            "",
            footnote(results),
            "",
        ]
    )


def chosen_steps(results: dict) -> list[str]:
    """Returns what was chosen for each pair and way, as lines."""
    return [
        f"- {name}, {way}: `{text}`"
        for name, pair in results["pairs"].items()
        for way, text in pair["step"].items()
    ]


def main() -> None:
    results = {**circumstances(SCRIPT), "rounds": ROUNDS, "pairs": {}}
    for pair in PAIRS:
        print(pair.name, flush=True)
        results["pairs"][pair.name] = measure(pair)
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
