# SPDX-License-Identifier: Apache-2.0
"""Do a few stored classes teach as well as all 1,000 of them?

    .venv/bin/python benchmarks/sparse_targets.py   # 20 minutes on two cores
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/sparse_targets.py    # a look

The next word of a real text (see `_next_word.py`). A GRU learns from all of
its training part and labels places drawn from it, into a cache of each
format; a small student learns from each, from the same start and in the same
order, one per seed. T = 1, as is usual for language models and as `sampled`
was drawn; nothing was tuned for a format.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time

import _next_word as task
import keras
import numpy as np
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import keep
from _timing import verdict

import keras_kd as kd
from keras_kd.evaluation.gain import NO_GAIN
from keras_kd.evaluation.gain import paired_gain

SCRIPT = "sparse_targets"
SETTINGS = dict(
    teacher_width=32 if FAST else 256,
    teacher_epochs=1 if FAST else 4,
    stride=160 if FAST else 8,
    places=4000 if FAST else 100_000,
    test_places=2000 if FAST else 20_000,
    epochs=2 if FAST else 8,
    seeds=[0, 1, 2],
    batch_size=256,
    learning_rate=3e-3,
    temperature=1.0,
    alpha=0.9,
)
DENSE, CONTROL = "dense float32", "labels alone"
FORMATS = {
    DENSE: {"dtype": "float32"},
    "dense float16": {"dtype": "float16"},
    "top 16 and the rest": {"top_k": 16},
    "50 draws": {"sampled": 50, "temperature": SETTINGS["temperature"]},
}
SMALL = 100  # bytes per sample


def compiled(model, steps: int):
    rate = keras.optimizers.schedules.CosineDecay(
        SETTINGS["learning_rate"], steps
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


def steps_of(examples: int, epochs: int) -> int:
    return epochs * -(-examples // SETTINGS["batch_size"])


def train_teacher(text: task.Task) -> keras.Model:
    """Returns the teacher, trained on all the training text."""
    keras.utils.set_random_seed(1000)
    every, teacher = task.build_teacher(SETTINGS["teacher_width"])
    x, y = text.sequences(SETTINGS["stride"])
    epochs, size = SETTINGS["teacher_epochs"], SETTINGS["batch_size"]
    compiled(every, steps_of(len(x), epochs))
    every.fit(x, y, batch_size=size, epochs=epochs, verbose=2)
    return teacher


def train_student(cache, split, seed: int, alpha: float) -> keras.Model:
    """Returns a student of the targets in a cache."""
    keras.utils.set_random_seed(seed)
    student = task.build_student()
    train = cache.attach(split, SETTINGS["batch_size"], shuffle=True, seed=seed)
    distiller = kd.Distiller(None, student, SETTINGS["temperature"], alpha)
    epochs = SETTINGS["epochs"]
    compiled(distiller, steps_of(len(split[1]), epochs))
    distiller.fit(train, epochs=epochs, shuffle=False, verbose=0)
    return student


def scores(model: keras.Model, split) -> dict[str, float]:
    """Returns accuracy, and the mean surprise at the next word in nats."""
    x, y = split
    logits = model.predict(x, batch_size=500, verbose=0)
    surprise = keras.losses.sparse_categorical_crossentropy(
        y, logits, from_logits=True
    )
    return {
        "accuracy": float((logits.argmax(-1) == y).mean()),
        "nats": float(np.mean(surprise)),
    }


def measure() -> dict:
    """Returns bytes and scores of every format."""
    text = task.load()
    train = text.places("train", SETTINGS["places"])
    test = text.places("test", SETTINGS["test_places"])
    teacher = train_teacher(text)
    student = task.build_student()
    found = {
        "weights": [teacher.count_params(), student.count_params()],
        "teacher": scores(teacher, test),
        "formats": {},
    }
    print(f"teacher: {found['teacher']}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, options in FORMATS.items():
            place = os.path.join(folder, name.replace(" ", "_"))
            cache = kd.TeacherCache(place, **options)
            cache.build(teacher, train, verbose=False)
            info = cache.info()
            jobs = {name: SETTINGS["alpha"]}
            if name == DENSE:
                # Weight zero for the targets: the same data and order.
                jobs[CONTROL] = 0.0
            for job, alpha in jobs.items():
                found["formats"][job] = {"seeds": [], "seconds": []}
                for seed in SETTINGS["seeds"]:
                    began = time.perf_counter()
                    model = train_student(cache, train, seed, alpha)
                    took = time.perf_counter() - began
                    runs = found["formats"][job]
                    runs["seeds"].append(scores(model, test))
                    runs["seconds"].append(took)
                print(f"{job}: {found['formats'][job]}", flush=True)
            found["formats"][name] |= {
                "bytes_per_sample": info["bytes_per_sample_and_view"],
                "labelled_with": info["labelled_with"],
            }
    return found


def to_markdown(results: dict) -> str:
    formats, settings = results["formats"], results["settings"]
    accuracies = {
        name: [run["accuracy"] for run in row["seeds"]]
        for name, row in formats.items()
    }
    lines = []
    for name in (CONTROL, *FORMATS):
        row = formats[name]
        gain = paired_gain(accuracies[DENSE], accuracies[name])
        nats = [run["nats"] for run in row["seeds"]]
        size = row.get("bytes_per_sample")
        difference = "" if name == DENSE else as_dense(gain)
        lines.append(
            f"| {name} | {'0' if size is None else f'{size:,.0f}'} | "
            f"{gain.distilled:.2f} | {difference} | "
            f"{statistics.mean(nats):.3f} | "
            f"{statistics.median(row['seconds']):.0f} s |"
        )
    top_k = next(name for name, row in FORMATS.items() if "top_k" in row)
    bytes_ = formats[top_k]["bytes_per_sample"]
    same = paired_gain(accuracies[DENSE], accuracies[top_k])
    teacher = results["teacher"]
    noise = 100 * statistics.stdev(accuracies[DENSE])
    return "\n".join(
        [
            f"# Sparse targets at {task.CLASSES:,} classes",
            "",
            "The next word of the King James Bible out of "
            f"{task.CLASSES:,}; {settings['places']:,} labelled places, "
            f"{settings['test_places']:,} to test, "
            f"{len(settings['seeds'])} seeds, T = "
            f"{settings['temperature']:g}, alpha = {settings['alpha']:g}. "
            f"Teacher: GRU, {results['weights'][0]:,} weights, "
            f"{teacher['accuracy']:.2%} and {teacher['nats']:.3f} nats; "
            f"student: {results['weights'][1]:,} weights. Standard deviation "
            f"of the dense student's accuracy between seeds: {noise:.2f} "
            "points. Bytes: all files of a cache, fingerprints included.",
            "",
            "| targets | bytes a sample | accuracy % | against dense float32 "
            "| nats | training |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
            f"Goals for {top_k}: at most {SMALL} bytes a sample "
            f"({bytes_:.0f}: {verdict(bytes_ <= SMALL)}), and as accurate as "
            f"dense targets ({same.mean:+z.2f} points, 95 % interval "
            f"{same.low:+z.2f} to {same.high:+z.2f}: "
            f"{verdict(same.high >= 0)}).",
            "",
            footnote(results),
            "",
        ]
    )


def as_dense(gain) -> str:
    """Returns the difference to dense targets, and whether it shows."""
    shows = "within seed noise" if gain.verdict == NO_GAIN else gain.verdict
    return f"{gain.mean:+z.2f} ± {gain.deviation:.2f}, {shows}"


def main() -> None:
    results = {**circumstances(SCRIPT), "settings": SETTINGS, **measure()}
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
