# SPDX-License-Identifier: Apache-2.0
"""compress(): from a trained teacher to verified files and a report."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras

from keras_kd import recipes
from keras_kd.checkup import warn_of_teacher
from keras_kd.data import Data
from keras_kd.data import labels_of
from keras_kd.export.publish import check_name
from keras_kd.records import StageRecord
from keras_kd.report import Report
from keras_kd.run import Run
from keras_kd.run import say
from keras_kd.stages import StageFolder
from keras_kd.stages import fingerprint_of_model
from keras_kd.stages import fingerprint_of_split
from keras_kd.training import train


def compress(
    teacher: Any,
    build_student: Callable[[], keras.Model],
    data: Data,
    directory: str | os.PathLike,
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    distillation_losses: Any = None,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: Any = 1e-3,
    loss: Any = None,
    seeds: Sequence[int] = (0, 1, 2),
    control: bool = True,
    prune: float | None = 0.5,
    prune_epochs: int = 10,
    formats: Sequence[str] = ("saved_model", "tflite"),
    quantize: str | None = None,
) -> Report:
    """Distils, prunes, exports and verifies a student, and reports it.

    For each seed it trains a student from the teacher and, beside it, the
    same student without the teacher, in the same number of steps: the
    control. The distilled student that is best on validation is pruned (the
    teacher goes on teaching), exported and verified in a fresh process.

        directory/1/, 2/, ...         SavedModels for TensorFlow Serving
        directory/<name>.tflite       LiteRT
        directory/report.{json,md,png}
        directory/stages/             each finished stage, and the teacher's
                                      answers (labels/, a `TeacherCache`)

    Call it again after a crash and it goes on from the last finished stage;
    after a change, only what depends on the change is done again. It sets
    Keras' random seed.

    Args:
        teacher: A trained `keras.Model` or a `keras_kd.teachers.Teacher`.
        build_student: Returns a new, untrained student.
        data: Training, validation and test splits.
        directory: Folder of this model; its name is the model's name for
            TensorFlow Serving.
        temperature: See `Distiller`.
        alpha: See `Distiller`.
        distillation_losses: See `Distiller`; they replace `temperature`.
        epochs: Passes over the training split.
        batch_size: Examples in a step.
        learning_rate: For Adam: the peak of a cosine decay to zero, or a
            Keras schedule.
        loss: Label loss; read off the student if `None`.
        seeds: One student and one control is trained per seed; the spread of
            the gain comes from them.
        control: Whether to train the controls. Without, nobody knows whether
            the teacher helped.
        prune: Share of the weights to set to zero, or `None`.
        prune_epochs: Passes over the training split while pruning.
        formats: Files to write, see `export`.
        quantize: For the .tflite file, see `export`.

    Returns:
        A `Report`; `print` it, or look at its `gain` and `records`.

    Raises:
        ValueError: If an argument is wrong, or a file does not verify.

    Example:

    ```python
    report = kd.compress(
        teacher, build_student, data, directory="saved_models/shoes"
    )
    print(report)
    ```
    """
    directory = pathlib.Path(directory).absolute()
    check_name(directory.name)
    if not tuple(seeds):
        raise ValueError("`seeds` must hold at least one seed. Received: ()")
    training = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "loss": loss,
    }
    distilling = {
        "temperature": temperature,
        "alpha": alpha,
        "distillation_losses": distillation_losses,
    }
    run = Run(teacher, build_student, data, directory, training, distilling)
    labels = labels_of(data.validation)
    records = [run.teacher()]
    teacher_accuracy = records[0].metrics.get("val_accuracy")
    for warning in warn_of_teacher(teacher_accuracy, labels):
        say(warning)  # now, before hours are spent on its students
    if control:
        controls = [run.control(seed) for seed in seeds]
        records.append(_best(controls, "control"))
    students = [run.student(seed) for seed in seeds]
    records.append(_best(students, "distilled"))
    final = f"student-{records[-1].settings['seed']}"
    if prune:
        records.append(run.pruned(final, prune, prune_epochs))
        final = "pruned"
    exported = run.export(final, formats, quantize)
    records += run.figures(records, exported)
    control_accuracy = records[1].metrics.get("val_accuracy")
    notes = warn_of_teacher(
        teacher_accuracy, labels, control_accuracy if control else None
    )
    report = Report(directory, records, notes=notes)
    report.save()
    return report


def _best(records: list[StageRecord], name: str) -> StageRecord:
    """Returns the record that is best on validation, with all seeds' figures.

    The test split chooses nothing.
    """
    accuracy = "val_accuracy" in records[0].metrics
    best = max(
        records,
        key=lambda record: (
            record.metrics["val_accuracy"]
            if accuracy
            else -record.metrics["val_loss"]
        ),
    )
    metrics = {
        **best.metrics,
        "seeds": [record.settings["seed"] for record in records],
    }
    if accuracy:
        metrics["accuracies"] = [r.metrics["accuracy"] for r in records]
    return StageRecord(
        best.stage,
        name,
        best.settings,
        metrics,
        best.artefacts,
        sum(record.seconds for record in records),
        best.created,
    )


def run_recipe(
    recipe: ModuleType,
    directory: str | os.PathLike,
    settings: dict[str, Any] | None = None,
    data_options: dict[str, Any] | None = None,
    quantize: str | None = None,
) -> Report:
    """Trains a recipe's teacher, unless that is done, and compresses it.

    Args:
        recipe: What `keras_kd.recipes.load` returned.
        directory: See `compress`.
        settings: Settings that go before the recipe's own.
        data_options: Arguments of the recipe's `load_data`.
        quantize: See `compress`.

    Example:

    ```python
    report = run_recipe(kd.recipes.load("digits"), "saved_models/digits")
    ```
    """
    settings = recipes.settings_of(recipe, **(settings or {}))
    directory = pathlib.Path(directory).absolute()
    stages = StageFolder(directory / "stages", say=say)
    data = recipe.load_data(**(data_options or {}))
    load_teacher_data = getattr(recipe, "load_teacher_data", None)
    teacher_data = load_teacher_data() if load_teacher_data else data
    training = {
        "epochs": settings["teacher_epochs"],
        "batch_size": settings["batch_size"],
        "learning_rate": settings["teacher_learning_rate"],
    }

    def make():
        model, facts = train(
            recipe.build_teacher, teacher_data, title="teacher", **training
        )
        facts.pop("history")
        return model, StageRecord(
            "teacher", "teacher", dict(training), facts, {}, facts["seconds"]
        )

    model = recipe.build_teacher()
    stages.run(
        "trained-teacher",
        {
            "data": fingerprint_of_split(teacher_data.train),
            "model": fingerprint_of_model(model, weights=False),
            **training,
        },
        make,
    )
    return compress(
        stages.model("trained-teacher"),
        recipe.build_student,
        data,
        directory,
        temperature=settings["temperature"],
        alpha=settings["alpha"],
        epochs=settings["student_epochs"],
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        seeds=settings["seeds"],
        prune=settings["sparsity"],
        prune_epochs=settings["prune_epochs"],
        quantize=quantize,
    )


def results(directory: str | os.PathLike) -> list[pathlib.Path]:
    """Returns what a person looks for in a run's folder, newest version."""
    directory = pathlib.Path(directory)
    versions = [p for p in directory.iterdir() if p.name.isdecimal()]
    newest = sorted(versions, key=lambda path: int(path.name))[-1:]
    reports = [directory / f"report.{kind}" for kind in ("md", "png", "json")]
    return [*newest, *sorted(directory.glob("*.tflite")), *reports]
