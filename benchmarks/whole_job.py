# SPDX-License-Identifier: Apache-2.0
"""Ten epochs of distillation, labelling included, against keras.distillation.

    .venv/bin/python benchmarks/whole_job.py   # 45 minutes on two cores
    .venv/bin/python benchmarks/whole_job.py heavy    # anew, beside the other
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/whole_job.py      # a look

Each job starts from models that are newly built and ends with a student:
compiling counts, as do the choice of an engine and writing to the disk. The
rival runs the teacher in every step; it is given the `KLDivergence()`
instance, without which its loss is not the one of the paper. It runs two
epochs, and eight more like the second are added. Ours runs steps together as
`kd.compress` does. The ceiling is what is left if a
teacher pass and ten plain fits are all there is to do.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import statistics
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from _pairs import REAL_PAIRS
from _pairs import RealPair
from _pairs import compiled
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import kept
from _timing import ratio
from _timing import seconds_of
from _timing import spread
from _timing import verdict

import keras_kd as kd
from keras_kd.distillers.steps_together import steps_together
from keras_kd.targets.inference import engines
from keras_kd.teachers import FrozenTeacher
from keras_kd.training.step_tuning import StepSettings

SCRIPT = "whole_job"
EPOCHS, RIVAL_EPOCHS, BATCH, LABELLING_BATCH = 10, 2, 128, 256
TEMPERATURE, ALPHA, AGREEMENT = 4.0, 0.7, 0.995
NEAR = 0.10  # from the ceiling
RIVAL, PLAIN_FITS = "keras.distillation", "plain fits"
EXACT, QUICK = "labelled exactly", "labelled faster"
PASS = {EXACT: "pass of teacher.predict", QUICK: "pass of the faster engine"}


class Job:
    """All ways to distil one pair.

    Args:
        pair: Its models and images.
        count: How many images the student learns from.
        train_on: How many the teacher learned from.
        epochs: And how often.
    """

    def __init__(self, pair: RealPair, count: int, train_on: int, epochs: int):
        self.build_teacher = pair.build_teacher
        self.build_student = pair.build_student
        self.x, self.y = pair.images(count)
        teacher = pair.trained_teacher(
            self.x[:train_on], self.y[:train_on], epochs
        )
        self.weights = teacher.get_weights()
        self.labelled_with = {}

    def teacher(self) -> keras.Model:
        teacher = self.build_teacher()
        teacher.set_weights(self.weights)
        return teacher

    def fit(self, model, *data, epochs: int = EPOCHS) -> float:
        """Returns the seconds of ten epochs, the first compiling."""
        if not model.compiled:
            compiled(model)
        clock = Clock()
        how = {"batch_size": BATCH} if len(data) > 1 else {"shuffle": False}
        model.fit(*data, **how, epochs=epochs, verbose=0, callbacks=[clock])
        missing = EPOCHS - epochs
        later = statistics.median(clock.seconds[1:]) if missing else 0.0
        return sum(clock.seconds) + missing * later

    def rival(self) -> float:
        distiller = keras.distillation.Distiller(
            teacher=self.teacher(),
            student=self.build_student(),
            distillation_losses=keras.distillation.LogitsDistillation(
                temperature=TEMPERATURE, loss=keras.losses.KLDivergence()
            ),
            student_loss_weight=1.0 - ALPHA,
        )
        return self.fit(distiller, self.x, self.y, epochs=RIVAL_EPOCHS)

    def plain_fits(self) -> float:
        return self.fit(self.build_student(), self.x, self.y)

    def cached(self, agreement: float | None, name: str) -> float:
        """Labels with a cache and distils from it."""
        teacher, student = self.teacher(), self.build_student()
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            cache = kd.TeacherCache(os.path.join(folder, "labels")).build(
                teacher,
                (self.x, self.y),
                batch_size=LABELLING_BATCH,
                agreement=agreement,
                verbose=False,
            )
            train = cache.attach((self.x, self.y), BATCH, shuffle=True)
            distiller = kd.Distiller(None, student, TEMPERATURE, ALPHA)
            compiled(distiller)
            # As `kd.compress` does.
            together = steps_together(
                math.ceil(len(self.x) / BATCH), tf.distribute.get_strategy()
            )
            StepSettings(distiller.jit_compile, together).apply(distiller)
            before = time.perf_counter() - began
            self.labelled_with[name] = cache.info()["labelled_with"]
            return before + self.fit(distiller, train)

    def predict(self) -> float:
        teacher = self.teacher()
        began = time.perf_counter()
        teacher.predict(self.x, batch_size=LABELLING_BATCH, verbose=0)
        return time.perf_counter() - began

    @functools.cached_property
    def batches(self) -> tf.data.Dataset:
        x = tf.data.Dataset.from_tensor_slices(self.x)
        return x.batch(LABELLING_BATCH).cache()

    @functools.cached_property
    def engine(self) -> engines.Engine:
        teacher = FrozenTeacher(self.teacher())
        return engines.choose(
            teacher, ["output"], self.batches, AGREEMENT, verbose=False
        )

    def fastest_pass(self) -> None:
        for answers, _ in self.engine.answers((x, None) for x in self.batches):
            np.asarray(answers["output"])

    def measure(self, rounds: int) -> dict:
        """Returns seconds and ratios of all ways."""
        ways = {
            RIVAL: self.rival,
            EXACT: functools.partial(self.cached, None, EXACT),
            QUICK: functools.partial(self.cached, AGREEMENT, QUICK),
            PLAIN_FITS: self.plain_fits,
            PASS[EXACT]: self.predict,
            PASS[QUICK]: seconds_of(self.fastest_pass),
        }
        print(f"  faster labelling by {self.engine.name}", flush=True)
        seconds = in_turn(ways, rounds)
        rows = {
            name: {
                "times_faster": ratio(seconds[RIVAL], seconds[name]),
                "labelled_with": self.labelled_with[name],
            }
            for name in (EXACT, QUICK)
        }
        passes = [EPOCHS * one for one in seconds[PASS[EXACT]]]
        return {
            "rounds": rounds,
            "images": len(self.x),
            "weights": [
                self.build_teacher().count_params(),
                self.build_student().count_params(),
            ],
            "pass_in_student_epochs": ratio(passes, seconds[PLAIN_FITS]),
            "seconds": seconds,
            "rows": rows,
        }


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch; the first holds the start of `fit`, too."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        self.seconds.append(now - self.began)
        self.began = now


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of a pair is run.

    Args:
        images: What the student learns from.
        teacher_images: What the teacher learned from.
        teacher_epochs: How often.
        rounds: Rounds that count.
        goal: Times as fast as the rival.
    """

    images: int
    teacher_images: int
    teacher_epochs: int
    rounds: int
    goal: float


PAIRS = {
    "small": Size(60_000, 30_000, 8, 3, 3.0),
    "depthwise": Size(60_000, 30_000, 8, 3, 3.0),
    "heavy": Size(20_000, 4_000, 6, 1, 8.0),
}
if FAST:
    PAIRS = {
        "small": Size(2500, 1000, 1, 1, 3.0),
        "depthwise": Size(2500, 1000, 1, 1, 3.0),
        "heavy": Size(400, 128, 1, 1, 8.0),
    }


def near_ceiling(times: dict, name: str, labelling: str) -> str:
    """Returns how near a job came to one pass by `labelling` and the fits."""
    pairs = zip(times[PASS[labelling]], times[PLAIN_FITS], strict=True)
    ideal = [one + fits for one, fits in pairs]
    over = ratio(times[name], ideal)["median"] - 1
    ceiling = spread(ratio(times[RIVAL], ideal), 1)
    return f"{ceiling} x, {over:+.0%}: {verdict(over <= NEAR)}"


def to_markdown(results: dict) -> str:
    lines, notes = [], []
    for name, pair in results["pairs"].items():
        title, goal = REAL_PAIRS[name].title, PAIRS[name].goal
        notes += [f"{name}: {footnote(pair)}", ""]
        teacher, student = pair["weights"]
        of_pass = pair["pass_in_student_epochs"]["median"]
        times = pair["seconds"]
        of_rival = ratio(times[RIVAL], times[PLAIN_FITS])["median"]
        for labelling, row in pair["rows"].items():
            faster, reached, own = row["times_faster"], "", "-"
            if labelling == QUICK:  # what the goal is for
                met = verdict(faster["median"] >= goal)
                reached = f", goal {goal:g}: {met}"
                own = near_ceiling(times, QUICK, QUICK)
            lines.append(
                f"| {title} ({teacher:,} to {student:,} weights, "
                f"{pair['images']:,} images, a teacher pass is "
                f"{of_pass:.1f} student epochs, `{RIVAL}` {of_rival:.1f} "
                "times a plain fit; "
                f"{pair.get('rounds', 3)} round(s)) | {labelling} "
                f"({engine_of(row)}) | {spread(faster, 1)} x{reached} | "
                f"{near_ceiling(times, labelling, EXACT)} | {own} |"
            )
    return "\n".join(
        [
            "# Ten epochs, labelling included, against `keras.distillation`",
            "",
            f"Real images (Fashion-MNIST), batches of {BATCH}; every job from "
            "newly built models, compiling included; median (lowest to "
            "highest) of the rounds. `keras.distillation` "
            f"with the `KLDivergence()` instance ran {RIVAL_EPOCHS} epochs, "
            f"and {EPOCHS - RIVAL_EPOCHS} more like the last were added. "
            "Labelled exactly: the default, all logits equal to the teacher's "
            "within float32; labelled faster: at least "
            f"{AGREEMENT:.1%} of its decisions kept. Ceiling: one teacher "
            "pass and ten plain fits, and how much longer than that the job "
            f"took, goal {NEAR:.0%}; the pass by `teacher.predict`, or by the "
            "faster engine alone, without its choice, a fixed cost. Steps of "
            "ours run together, as `kd.compress` does.",
            "",
            "| pair | labels | times as fast as keras.distillation | "
            "ceiling with `teacher.predict` | with the faster engine |",
            "|---|---|---|---|---|",
            *lines,
            "",
            *notes,
        ]
    )


def engine_of(row: dict) -> str:
    """Returns the engine, or engines, that the labels were made with."""
    found = []
    for used in row["labelled_with"]:
        text = used["engine"]
        if used.get("asked_again"):
            text += f", the teacher for {used['asked_again']:.1%}"
        if used.get("agreement") is not None:
            text += f", agreement {used['agreement']:.2%}"
        found.append(text)
    return "; ".join(found)


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - set(PAIRS))
    if unknown:
        raise SystemExit(f"No pair named {unknown}. There are: {list(PAIRS)}")
    keras.utils.set_random_seed(0)
    found = kept(SCRIPT).get("pairs", {})
    for name in names or PAIRS:
        print(name, flush=True)
        about = circumstances(SCRIPT)
        size = PAIRS[name]
        job = Job(
            REAL_PAIRS[name],
            size.images,
            size.teacher_images,
            size.teacher_epochs,
        )
        found[name] = {**about, **job.measure(size.rounds)}
        results = {"pairs": found}
        keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main(sys.argv[1:])
