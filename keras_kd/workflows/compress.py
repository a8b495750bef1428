# SPDX-License-Identifier: Apache-2.0
"""compress(): from a trained teacher to verified files and a report."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.core.type_aliases import LearningRateLike
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import LossWeightsLike
from keras_kd.core.type_aliases import MetricLike
from keras_kd.core.type_aliases import OptimizerLike
from keras_kd.core.type_aliases import TaskLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.parts import labels_of
from keras_kd.data.preprocessing import preprocessed
from keras_kd.data.splits import as_data
from keras_kd.engines import Engine
from keras_kd.engines.named import opened
from keras_kd.export.publishing.versions import check_name
from keras_kd.export.publishing.versions import folder_of
from keras_kd.export.signatures.answers import Head
from keras_kd.report import Report
from keras_kd.training.augmenting import check_augment
from keras_kd.workflows.argument_checks import check_lesson
from keras_kd.workflows.argument_checks import check_searched
from keras_kd.workflows.argument_checks import check_settings
from keras_kd.workflows.artifact_metrics import artifact_metrics
from keras_kd.workflows.choosing import best_of
from keras_kd.workflows.choosing import is_better
from keras_kd.workflows.choosing import order_of_examples
from keras_kd.workflows.choosing import ship_the_control
from keras_kd.workflows.choosing import still_improving
from keras_kd.workflows.dry_run import dry_run as through_every_stage
from keras_kd.workflows.export_stages import exported
from keras_kd.workflows.export_stages import refusal_of_teacher
from keras_kd.workflows.export_stages import refusals
from keras_kd.workflows.export_stages import teacher_file
from keras_kd.workflows.export_stages import withdrawn
from keras_kd.workflows.seeds import train_seeds
from keras_kd.workflows.stages import CompressionStages
from keras_kd.workflows.teacher_checks import warn_of_teacher


def compress(
    teacher: TeacherLike,
    build_student: Callable[[], keras.Model],
    data: DataLike,
    directory: str | os.PathLike,
    *,
    temperature: float | None = None,
    alpha: float = 0.7,
    distillation_losses: LossLike | None = None,
    search: int | None = None,
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: LearningRateLike = 1e-3,
    optimizer: OptimizerLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    loss: LabelLossLike | None = None,
    loss_weights: LossWeightsLike | None = None,
    metrics: Sequence[MetricLike] | None = None,
    augment: Callable | None = None,
    task: TaskLike | None = None,
    headline: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    control: bool = True,
    prune: float | None = 0.5,
    prune_epochs: int = 10,
    formats: Sequence[str] = ("saved_model", "tflite"),
    quantize: str | Sequence[str | None] | None = None,
    tolerance: float | None = None,
    head: Head = None,
    preprocess: keras.Layer | None = None,
    dry_run: bool = True,
    workers: int = 1,
    engine: Engine | str | None = None,
    verbose: int = 1,
) -> Report:
    """Distils, prunes, exports and verifies a student, and reports it.

    For each seed it trains a student from the teacher and, beside it, the
    same student without the teacher, in the same number of steps: the
    control. The distilled student that is best on validation is pruned (the
    teacher keeps teaching), exported and verified in a fresh process. The
    best control is pruned in as many steps. Where controls are better on
    validation, theirs is exported, too, and the report says to ship it. The
    .tflite files are compared with one of the teacher, in the same runtime.

        directory/1/, 2/, ...         SavedModels for TensorFlow Serving
        directory/<name>.tflite       LiteRT
        directory/report.html         every figure, by class, disagreements
                                      with the teacher, lineage; one file
        directory/report.{json,md,png}
        directory/search/             the trials, if there was a search
        directory/control/            files of the control, if it is better
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
        temperature: See `Distiller`; `None`: that of the task's losses.
        alpha: See `Distiller`.
        distillation_losses: See `Distiller`; they replace `temperature`.
            `None`: those of the task.
        search: Trials in which KerasTuner first looks for a better
            temperature and alpha, by the validation split and with a seed of
            its own; see `search`. `None`: they are as given.
        epochs: Passes over the training split.
        batch_size: Examples in a step.
        learning_rate: For Adam: the peak of a cosine decay to zero, or a
            Keras schedule.
        optimizer: In place of Adam: an optimizer of Keras, its name (it then
            has the learning rate), or a function of the number of steps. It
            trains students and controls; pruning is done by Adam.
        callbacks: For the training of students and controls.
        loss: Label loss; that of the task if `None`.
        loss_weights: Of the outputs, as in `compile`.
        metrics: To be measured on the validation split after each epoch,
            beside the headline; those of the task if `None`.
        augment: A function `(x, seed)` of one example of training arrays, see
            `TeacherCache.build`. Each epoch sees fresh views, the teacher the
            same ones as the student; it then answers in each step.
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
        tolerance: See `export`.
        head: See `export`.
        preprocess: See `export`. `data` then holds what clients send;
            teacher and students see what this layer makes of it.
        dry_run: Whether one batch first goes through every stage, so that
            what cannot work fails at once. It changes no figure.
        workers: Processes that train controls, students and trials of a
            search side by side.
        engine: Where, see `search`.
        verbose: 0 prints nothing, else a line or a bar for each stage.

    Returns:
        A `Report`; `print` it, or look at its `gain` and `records`.

    Raises:
        ValueError: If an argument is wrong, one batch does not come through
            a stage, or a file does not verify.

    Example:

    ```python
    report = kd.compress(
        teacher, build_student, data, directory="saved_models/shoes"
    )
    print(report)
    ```
    """
    directory = pathlib.Path(directory).absolute()
    folder_of(directory.parent, check_name(directory.name))
    data = as_data(data)
    given = {
        "optimizer": optimizer,
        "callbacks": list(callbacks) or None,
        "metrics": metrics,
        "loss_weights": loss_weights,
        "augment": augment,
    }
    given = {key: value for key, value in given.items() if value is not None}
    check_searched(search, given)
    training = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "loss": loss,
        **given,
    }
    distilling: dict[str, Any] = {
        "temperature": temperature,
        "alpha": alpha,
        "distillation_losses": distillation_losses,
    }
    exporting = {"tolerance": tolerance, "head": head, "preprocess": preprocess}
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
            **exporting,
            "workers": workers,
            "engine": engine,
        }
    )
    files: dict[str, Any] = {"formats": list(formats), "quantize": quantize}
    files |= {k: v for k, v in exporting.items() if v is not None}
    raw, data = data, preprocessed(data, preprocess)
    check_augment(augment, data.train)
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
        files=raw,
    )
    if dry_run:
        through_every_stage(stages, prune, files)
    judged, labels = stages.task.headline, labels_of(data.validation)
    figure = f"val_{judged.name}"
    of_teacher = stages.teacher()
    of_control = teacher_lite = None
    teacher_value = of_teacher.metrics.get(figure)
    for warning in sized + warn_of_teacher(teacher_value, labels, None, judged):
        stages.say(warning)  # now, before hours are spent on its students
    found = None
    kinds = ["control", "student"] if control else ["student"]
    with opened(engine, workers, directory / "stages" / "workers.log") as where:
        if search is not None:
            found = stages.search(search, max(seeds) + 1, where)
        trained = train_seeds(stages, kinds, seeds, where)
    records = [of_teacher]
    students, controls = trained["student"], trained.get("control", [])
    if controls:
        of_control = last_control = best_of(controls, "control", judged)
        records.append(of_control)
    shipped = best_of(students, "distilled", judged)
    records.append(shipped)
    if prune:
        shipped = stages.pruned(shipped, prune, prune_epochs)
        records.append(shipped)
        if of_control is not None:
            # What is shipped has had more steps than its control.
            last_control = stages.pruned_control(
                of_control, prune, prune_epochs
            )
            records.append(last_control)
    files_of = exported(stages, shipped, files)
    if "tflite" in formats:
        teacher_lite = teacher_file(stages, preprocess)
    records += artifact_metrics(stages, records, files_of, teacher_lite)
    rows, refused = refusals(files_of, directory.name)
    records += rows
    other = of_control.metrics[figure] if of_control else None
    notes = sized + warn_of_teacher(teacher_value, labels, other, judged)
    notes += [*refused, *still_improving(students, epochs)]
    if controls and is_better(controls, students, judged):
        exported(stages, last_control, files, "control")
        notes.append(ship_the_control(directory / "control"))
    else:
        withdrawn(stages, "control")
    if controls:
        notes += order_of_examples(data.train)
    if teacher_lite is not None:
        notes += refusal_of_teacher(teacher_lite)
    notes += [found] if found is not None else []
    report = Report(directory, records, notes=notes, split=data.reported_split)
    report.save()
    return report
