# SPDX-License-Identifier: Apache-2.0
"""Which level helps a sequence student: words, whole sequences, or both?

    .venv/bin/python benchmarks/sequence_level.py    # ten minutes or more
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/sequence_level.py   # a look

Letters to phonemes (the CMU dictionary), a GRU encoder-decoder of 344,000
weights and one of 25,000. Four students per seed, with the same start, steps
and settings:

    control          references
    word level       references, and soft targets of the teacher
    sequence level   what the teacher's beam search writes
    both             what it writes, and soft targets on that

The settings were not tuned for any of them. Errors are those of greedy search
on 2,000 test words. The full run is kept in
benchmarks/results/sequence_level/, with date, machine and versions.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import time

import _pronunciation as task
import keras
import numpy as np

from keras_kd import Data
from keras_kd import Distiller
from keras_kd.core.records import write_atomically
from keras_kd.data.generation import generate
from keras_kd.data.sequences import sequence_level
from keras_kd.evaluation.environment import describe
from keras_kd.evaluation.environment import environment
from keras_kd.evaluation.gain import paired_gain
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.attached import outputs_of
from keras_kd.teachers import FrozenTeacher

RESULTS = pathlib.Path(__file__).parent / "results" / "sequence_level"
COMMAND = ".venv/bin/python benchmarks/sequence_level.py"
CONTROL = "control"
LEVELS = (CONTROL, "word level", "sequence level", "both")


@dataclasses.dataclass(frozen=True)
class Settings:
    words: int = 20_000
    teacher_width: int = 128
    teacher_epochs: int = 10
    student_width: int = 32
    student_epochs: int = 8
    teacher_learning_rate: float = 3e-3
    learning_rate: float = 5e-3
    batch_size: int = 256
    beam: int = 5
    temperature: float = 2.0
    alpha: float = 0.7
    seeds: tuple[int, ...] = (0, 1, 2)


FAST = Settings(
    words=4000,
    teacher_width=48,
    teacher_epochs=5,
    student_width=24,
    student_epochs=3,
    batch_size=64,
    beam=2,
    seeds=(0,),
)


def train(model, split, epochs: int, rate: float, batch_size: int) -> None:
    """Fits a model or distiller, the learning rate falling to zero."""
    steps = epochs * -(-len(split[1]) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*split, epochs=epochs, batch_size=batch_size, verbose=0)


def errors(model: keras.Model, data: Data, accepted, beam: int = 1) -> dict:
    """Returns a model's error rates on the test words."""
    letters = data.test[0][0]
    answers = generate(
        model, letters, task.START, task.END, task.SOUNDS + 1, beam=beam
    )
    return task.error_rates(answers, accepted)


def train_teacher(data: Data, settings: Settings) -> keras.Model:
    """Returns the teacher, trained on the references."""
    keras.utils.set_random_seed(1000)
    teacher = task.build(settings.teacher_width, "teacher")
    train(
        teacher,
        data.train,
        settings.teacher_epochs,
        settings.teacher_learning_rate,
        settings.batch_size,
    )
    return teacher


def splits_by_level(teacher: keras.Model, data: Data, settings: Settings):
    """Returns what the students of each level are fitted on.

    The teacher runs once over each: its logits are attached to the data.
    """
    written = sequence_level(
        teacher, data, task.START, task.END, beam=settings.beam
    )

    def with_logits(split):
        logits = outputs_of(FrozenTeacher(teacher), split)
        return attach_targets(split[0], {"output": logits}), split[1]

    splits = (
        data.train,
        with_logits(data.train),
        written.train,
        with_logits(written.train),
    )
    return dict(zip(LEVELS, splits, strict=True))


def train_student(split, seed: int, settings: Settings) -> keras.Model:
    """Returns a student, distilled where the split has a teacher's logits."""
    keras.utils.set_random_seed(seed)
    student = task.build(settings.student_width, "student")
    learner = student
    if isinstance(split[0], dict):
        learner = Distiller(None, student, settings.temperature, settings.alpha)
    train(
        learner,
        split,
        settings.student_epochs,
        settings.learning_rate,
        settings.batch_size,
    )
    return student


def run(settings: Settings) -> dict:
    """Trains all models and returns their errors, as plain JSON."""
    began = time.perf_counter()

    def say(line):
        print(f"{time.perf_counter() - began:6.0f} s  {line}", flush=True)

    data, accepted = task.load_data(settings.words)
    teacher = train_teacher(data, settings)
    found = {"teacher": [errors(teacher, data, accepted)]}
    beam = errors(teacher, data, accepted, settings.beam)
    found[f"teacher, beam {settings.beam}"] = [beam]
    say(f"teacher trained: {found}")
    splits = splits_by_level(teacher, data, settings)
    say("teacher has labelled the data")
    found |= {level: [] for level in LEVELS}
    for seed in settings.seeds:
        for level, split in splits.items():
            student = train_student(split, seed, settings)
            found[level].append(errors(student, data, accepted))
            say(f"seed {seed}, {level}: {found[level][-1]}")
    written = splits["sequence level"][1]
    return {
        "command": COMMAND,
        "date": datetime.date.today().isoformat(),
        "seconds": time.perf_counter() - began,
        "settings": dataclasses.asdict(settings),
        "weights": {
            model.name: model.count_params() for model in (teacher, student)
        },
        "generated_sequences": len(written),
        "errors": found,
        "environment": environment(),
    }


def to_markdown(results: dict) -> str:
    """Returns the table, and a verdict for each way of distilling."""
    rows = [
        "| model | word error rate | phoneme error rate |",
        "|---|---|---|",
    ]
    for name, runs in results["errors"].items():
        cells = [
            figure([one[key] for one in runs])
            for key in ("word_error_rate", "phoneme_error_rate")
        ]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} |")
    right = {
        level: [1 - one["word_error_rate"] for one in results["errors"][level]]
        for level in LEVELS
    }
    verdicts = [
        f"- **{level}**, words right: {paired_gain(right[CONTROL], values)}"
        for level, values in right.items()
        if level != CONTROL
    ]
    settings = results["settings"]
    return "\n".join(
        [
            f"`{results['command']}`, {results['date']}, "
            f"{results['seconds']:.0f} s. Students: mean of "
            f"{len(settings['seeds'])} seeds (lowest to highest); soft targets "
            f"at temperature {settings['temperature']}, alpha "
            f"{settings['alpha']}.",
            "",
            *rows,
            "",
            *verdicts,
            "",
            describe(results["environment"]),
            "",
        ]
    )


def figure(values: list[float]) -> str:
    """Returns percentages as `mean (lowest to highest)`."""
    values = 100 * np.array(values)
    if len(values) == 1:
        return f"{values[0]:.2f} %"
    return f"{values.mean():.2f} % ({values.min():.2f} to {values.max():.2f})"


def main() -> None:
    fast = bool(os.environ.get("KERAS_KD_FAST"))
    results = run(FAST if fast else Settings())
    table = to_markdown(results)
    print(table)
    if not fast:
        content = json.dumps(results, indent=2) + "\n"
        write_atomically(RESULTS / "results.json", content)
        write_atomically(RESULTS / "table.md", table)


if __name__ == "__main__":
    main()
