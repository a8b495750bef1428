# SPDX-License-Identifier: Apache-2.0
"""What pruning and quantising are worth together, file by file.

    .venv/bin/python benchmarks/compression.py   # 12 minutes on two cores
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/compression.py     # a look

One teacher, one distilled student; each pruned or smaller model is made from
that student and recovers with the teacher's stored answers. Each is then
exported as float32, float16, dynamic and int8, every file on its own: once
stored densely and, where there are zeros, once stored sparsely. What the
library refuses stands in the table with its own words.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import random
import tempfile
import time
from typing import Any

import keras
from _compression_words import UNPRUNED
from _compression_words import to_markdown
from _timing import FAST
from _timing import circumstances
from _timing import keep
from _timing import ratio
from keras import layers

import keras_kd as kd
from keras_kd.data.parts import take
from keras_kd.evaluation import latency
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.export import VerificationError
from keras_kd.recipes import fashion_mnist
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.trainer import train

SCRIPT = "compression"
TEACHER_EPOCHS, STUDENT_EPOCHS, RECOVERY_EPOCHS = (
    (1, 1, 1) if FAST else (5, 6, 3)
)
BATCH, TEMPERATURE, ALPHA = 128, 2.0, 0.9
LEARNING_RATE, RECOVERY_RATE = 3e-3, 2e-3
ROUNDS, REPEATS = (2, 10) if FAST else (7, 100)

KINDS = {
    "float32": None,
    "float16": "float16",
    "dynamic": "dynamic",
    "int8": "int8",
}
CHANNELS = "half the channels"
# LiteRT loads no sparse Dense layer in int8: one row shows it, the others
# leave the Dense layer as it is.
CONVOLUTIONS = {"exclude": [layers.Dense]}
PRUNED: dict[str, dict[str, Any]] = {
    "50 % zeros": {"sparsity": 0.5, **CONVOLUTIONS},
    "80 % zeros": {"sparsity": 0.8, **CONVOLUTIONS},
    "90 % zeros": {"sparsity": 0.9, **CONVOLUTIONS},
    "2:4 zeros": {"sparsity_m_by_n": (2, 4), **CONVOLUTIONS},
    "80 % zeros everywhere": {"sparsity": 0.8},
}


def build_student() -> keras.Model:
    """A CNN with four convolutions and about 90,000 weights."""
    convolution = fashion_mnist.convolution
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *convolution(32, strides=2),
            *convolution(48, strides=2),
            *convolution(64),
            *convolution(64, strides=2),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name="student",
    )


def load(labelled: int | None) -> kd.Data:
    """Returns Fashion-MNIST, or a little of it."""
    data = fashion_mnist.load_data(labelled)
    if not FAST:
        return data
    splits = {
        name: tuple(array[:512] for array in getattr(data, name))
        for name in ("train", "validation", "test")
    }
    return dataclasses.replace(data, **splits)


def make_models(targets: TeacherTargets) -> tuple[dict[str, keras.Model], dict]:
    """Returns the student and what is made from it, and the zeros of each."""
    taught = {
        "batch_size": BATCH,
        "temperature": TEMPERATURE,
        "alpha": ALPHA,
        **targets.for_training(),
    }
    student, _ = train(
        build_student,
        targets.data,
        title="student",
        epochs=STUDENT_EPOCHS,
        learning_rate=LEARNING_RATE,
        **taught,
    )
    models, zeros = {UNPRUNED: student}, {}
    data, teacher = targets.for_pruning(BATCH)
    steps = RECOVERY_EPOCHS * math.ceil(len(targets.data.train[1]) / BATCH)
    for name, options in PRUNED.items():
        print(f"{name}: pruning", flush=True)
        keras.utils.set_random_seed(0)
        models[name], record = kd.prune(
            student,
            data,
            teacher=teacher,
            epochs=RECOVERY_EPOCHS,
            batch_size=BATCH,
            learning_rate=keras.optimizers.schedules.CosineDecay(
                RECOVERY_RATE, steps
            ),
            temperature=TEMPERATURE,
            alpha=ALPHA,
            **options,
        )
        zeros[name] = record.metrics["sparsity"]
    smaller, _ = kd.prune_channels(student, 0.5)
    models[CHANNELS], _ = train(
        lambda: smaller,
        targets.data,
        title=CHANNELS,
        epochs=RECOVERY_EPOCHS,
        learning_rate=RECOVERY_RATE,
        **taught,
    )
    return models, zeros


def make_file(
    model: keras.Model,
    folder: pathlib.Path,
    kind: str,
    targets: TeacherTargets,
    sparse: bool = False,
) -> dict[str, Any]:
    """Exports one file and measures it, or says why there is none."""
    try:
        kd.export(
            model,
            folder,
            "model",
            formats="tflite",
            quantize=[KINDS[kind]],
            calibration=targets.data,
            sparse=sparse,
            verbose=False,
        )
    except (RuntimeError, VerificationError) as error:
        reason = " ".join(str(error).replace(str(folder), "").split())
        return {"refused": reason}
    path = folder / "model" / f"model.{kind}.tflite"
    measured = Evaluator(targets.teacher, targets.data).measure(path)
    kept = ("accuracy", "agreement", "bytes", "gzip_bytes")
    return {"path": str(path), **{name: measured[name] for name in kept}}


def make_files(
    models: dict[str, keras.Model],
    targets: TeacherTargets,
    folder: pathlib.Path,
) -> list[dict[str, Any]]:
    """Returns a row for each file that was made or refused."""
    rows = []
    for number, (name, model) in enumerate(models.items()):
        kinds = ["float32"] if name == "teacher" else KINDS
        for kind in kinds:
            for stored in ("densely", "sparsely"):
                if stored == "sparsely" and name not in PRUNED:
                    continue
                place = folder / f"{number}-{stored}"
                made = make_file(
                    model, place, kind, targets, stored == "sparsely"
                )
                outcome = made.get("refused", made.get("bytes"))
                print(f"  {name}, {kind}, {stored}: {outcome}", flush=True)
                rows.append(
                    {"model": name, "kind": kind, "stored": stored, **made}
                )
    return rows


def time_files(rows: list[dict[str, Any]], inputs: Any) -> None:
    """Adds the latency of each file and its ratio to the unpruned one's."""
    files = {str(at): r["path"] for at, r in enumerate(rows) if "path" in r}
    found = {at: [] for at in files}
    for number in range(ROUNDS):
        # What runs before a file decides what is left in the cache for it:
        # in each process the neighbours are others.
        order = random.Random(number).sample(list(files), len(files))
        mixed = {at: files[at] for at in order}
        times = latency(mixed, inputs, repeats=REPEATS, threads=1)
        for at, time_of in times.items():
            found[at].append(time_of["p50_ms"])
        print(f"  timed, round {number + 1} of {ROUNDS}", flush=True)
    unpruned = {
        rows[int(at)]["kind"]: found[at]
        for at in files
        if rows[int(at)]["model"] == UNPRUNED
    }
    for at, milliseconds in found.items():
        row = rows[int(at)]
        del row["path"]
        row["ms"] = milliseconds
        if row["kind"] in unpruned:
            row["times_as_long"] = ratio(milliseconds, unpruned[row["kind"]])


def main() -> None:
    about, began = circumstances(SCRIPT), time.perf_counter()
    teacher, facts = train(
        fashion_mnist.build_teacher,
        load(labelled=None),
        title="teacher",
        epochs=TEACHER_EPOCHS,
        batch_size=BATCH,
        learning_rate=2e-3,
    )
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        targets = TeacherTargets(
            teacher, load(3000), directory=folder / "targets"
        )
        models, zeros = make_models(targets)
        models = {"teacher": teacher, **models}
        rows = make_files(models, targets, folder)
        time_files(rows, take(targets.data.test, 32))
    results = {
        **about,
        "seconds": time.perf_counter() - began,
        "epochs": [TEACHER_EPOCHS, STUDENT_EPOCHS, RECOVERY_EPOCHS],
        "rounds": ROUNDS,
        "repeats": REPEATS,
        "test_images": len(targets.data.test[1]),
        "weights": {name: m.count_params() for name, m in models.items()},
        "zeros": zeros,
        "rows": rows,
    }
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
