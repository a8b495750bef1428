# SPDX-License-Identifier: Apache-2.0
"""compress(): from a trained teacher to verified files and a report."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from keras_kd import tasks
from keras_kd.core.records import StageRecord
from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.core.type_aliases import LearningRateLike
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.splits import as_data
from keras_kd.data.splits import labels_of
from keras_kd.export.publishing.versions import check_name
from keras_kd.report import Report
from keras_kd.tasks import Task
from keras_kd.training.trainer import validation_value
from keras_kd.workflows.argument_checks import check_lesson
from keras_kd.workflows.argument_checks import check_settings
from keras_kd.workflows.artifact_metrics import artifact_metrics
from keras_kd.workflows.stages import CompressionStages
from keras_kd.workflows.teacher_checks import warn_of_teacher


def compress(
    teacher: TeacherLike,
    build_student: Callable[[], keras.Model],
    data: DataLike,
    directory: str | os.PathLike,
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    distillation_losses: LossLike | None = None,
    search: int | None = None,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: LearningRateLike = 1e-3,
    loss: LabelLossLike | None = None,
    task: Task | Mapping[str, Task] | None = None,
    headline: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    control: bool = True,
    prune: float | None = 0.5,
    prune_epochs: int = 10,
    formats: Sequence[str] = ("saved_model", "tflite"),
    quantize: str | Sequence[str | None] | None = None,
    verbose: int = 1,
) -> Report:
    """Distils, prunes, exports and verifies a student, and reports it.

    For each seed it trains a student from the teacher and, beside it, the
    same student without the teacher, in the same number of steps: the
    control. The distilled student that is best on validation is pruned (the
    teacher keeps teaching), exported and verified in a fresh process. Its
    .tflite files are compared with one of the teacher, in the same runtime.

        directory/1/, 2/, ...         SavedModels for TensorFlow Serving
        directory/<name>.tflite       LiteRT
        directory/report.html         every figure, by class, disagreements
                                      with the teacher, lineage; one file
        directory/report.{json,md,png}
        directory/search/             the trials, if there was a search
        directory/stages/             each finished stage, the teacher's
                                      answers (targets/, a `TeacherCache`) and
                                      its .tflite file (teacher/)

    Call it again after a crash and it resumes from the last finished stage;
    after a change, only what depends on the change is done again. It sets
    Keras' random seed.

    Args:
        teacher: A trained `keras.Model` or a `keras_kd.teachers.Teacher`.
        build_student: Returns a new, untrained student.
        data: Training, validation and test splits: `Data`, or what it is
            made of.
        directory: Folder of this model; its name is the model's name for
            TensorFlow Serving.
        temperature: See `Distiller`.
        alpha: See `Distiller`.
        distillation_losses: See `Distiller`; they replace `temperature`.
        search: Trials in which KerasTuner first looks for a better
            temperature and alpha, by the validation split and with a seed of
            its own; see `search`. `None`: they are as given.
        epochs: Passes over the training split.
        batch_size: Examples in a step.
        learning_rate: For Adam: the peak of a cosine decay to zero, or a
            Keras schedule.
        loss: Label loss; that of the task if `None`.
        task: What outputs and labels mean, see `keras_kd.tasks`; `None`:
            inferred, if it is certain. Its headline chooses the best epoch
            and seed, and is what the gain is of.
        headline: Output that a dict of tasks is judged by.
        seeds: One student and one control is trained per seed; the spread of
            the gain comes from them.
        control: Whether to train the controls. Without, nobody knows whether
            the teacher helped.
        prune: Share of the weights to set to zero, or `None`.
        prune_epochs: Passes over the training split while pruning.
        formats: Files to write, see `export`.
        quantize: For the .tflite file, or a list for one file each, see
            `export`. int8 learns its ranges from the training split.
        verbose: 0 prints nothing, else a line or a bar for each stage.

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
    data = as_data(data)
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
    check_settings(
        {
            **training,
            **distilling,
            "search": search,
            "seeds": seeds,
            "prune": prune,
            "prune_epochs": prune_epochs if prune else 1,
            "formats": formats,
            "quantize": quantize,
        }
    )
    sized = check_lesson(
        teacher,
        build_student,
        data,
        loss=loss,
        task=task,
        headline=headline,
        **distilling,
    )
    stages = CompressionStages(
        teacher,
        build_student,
        data,
        directory,
        training,
        distilling,
        verbose,
        task=task,
        headline=headline,
    )
    judged = stages.task.headline
    figure = f"val_{judged.name}"
    labels = labels_of(data.validation)
    of_teacher = stages.teacher()
    of_control = None
    teacher_value = of_teacher.metrics.get(figure)
    at_first = warn_of_teacher(teacher_value, labels, None, judged)
    for warning in sized + at_first:
        stages.say(warning)  # now, before hours are spent on its students
    found = None
    if search is not None:
        found = stages.search(search, seed=max(seeds) + 1)
    records = [of_teacher]
    if control:
        controls = [stages.control(seed) for seed in seeds]
        of_control = _best(controls, "control", judged)
        records.append(of_control)
    students = [stages.student(seed) for seed in seeds]
    shipped = _best(students, "distilled", judged)
    records.append(shipped)
    if prune:
        shipped = stages.pruned(shipped, prune, prune_epochs)
        records.append(shipped)
    exported = stages.export(shipped, formats, quantize)
    teacher_file = stages.teacher_file() if "tflite" in formats else None
    records += artifact_metrics(stages, records, exported, teacher_file)
    control_value = of_control.metrics[figure] if of_control else None
    notes = sized + warn_of_teacher(
        teacher_value, labels, control_value, judged
    )
    if teacher_file is not None and not teacher_file.artefacts:
        notes.append(
            "The teacher does not convert to LiteRT, so no .tflite file is "
            f"compared with it: {teacher_file.metrics['refused'][:300]}"
        )
    if found is not None:
        notes.append(found)
    report = Report(directory, records, notes=notes, split=data.reported_split)
    report.save()
    return report


def _best(
    records: list[StageRecord], name: str, headline: tasks.Headline
) -> StageRecord:
    """Returns the record that is best on validation, with all seeds' figures.

    The test split chooses nothing.
    """
    best = max(
        records, key=lambda record: validation_value(record.metrics, headline)
    )
    metrics = {
        **best.metrics,
        "seeds": [record.settings["seed"] for record in records],
    }
    values = [record.metrics.get(headline.name) for record in records]
    if None not in values:
        is_accuracy = headline == tasks.Headline("accuracy")
        metrics["accuracies" if is_accuracy else "headlines"] = values
    seconds = sum(record.seconds for record in records)
    return dataclasses.replace(
        best, name=name, metrics=metrics, seconds=seconds
    )
