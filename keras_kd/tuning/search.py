# SPDX-License-Identifier: Apache-2.0
"""search(): KerasTuner looks for the temperature, alpha and more."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner

from keras_kd import engines
from keras_kd.core.arguments import check_count
from keras_kd.core.file_lock import file_lock
from keras_kd.core.folders import check_folder
from keras_kd.core.leases import sweep
from keras_kd.core.progress import console_for
from keras_kd.core.progress import say
from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import MetricLike
from keras_kd.core.type_aliases import SearchedLike
from keras_kd.core.type_aliases import TaskLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.splits import as_data
from keras_kd.distillers.value_checks import check_values
from keras_kd.engines import Engine
from keras_kd.training.task_of import written
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.teacher_targets import targets_folder
from keras_kd.tuning.display.table import LiveTable
from keras_kd.tuning.result import SearchResult
from keras_kd.tuning.space import oracles
from keras_kd.tuning.space.definition import definition_of
from keras_kd.tuning.space.definition import losses_of
from keras_kd.tuning.space.hyper_distiller import HyperDistiller
from keras_kd.tuning.space.objective import objective_of
from keras_kd.tuning.space.objective import task_to_search
from keras_kd.tuning.trials.confirmed import confirm_settings
from keras_kd.tuning.trials.driver import run_trials
from keras_kd.tuning.trials.driver import warm
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.logs import log_trial
from keras_kd.tuning.trials.study import AHEAD
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.study_file import clear
from keras_kd.tuning.trials.trial_record import RUNNING


def search(
    teacher: TeacherLike | TeacherTargets,
    build_student: Callable[..., keras.Model],
    data: DataLike,
    trials: int = 20,
    directory: str | os.PathLike = "search",
    *,
    tuner: str = "bayesian",
    objective: str | keras_tuner.Objective | None = None,
    temperature: SearchedLike = (1.0, 20.0),
    alpha: SearchedLike = (0.0, 1.0),
    learning_rate: SearchedLike = 1e-3,
    distillation_losses: LossLike | Callable[..., LossLike] | None = None,
    epochs: int = 20,
    batch_size: int = 128,
    loss: LabelLossLike | None = None,
    metrics: Sequence[MetricLike] | None = None,
    task: TaskLike | None = None,
    headline: str | None = None,
    seed: int = 0,
    control: bool = True,
    median_stopping: bool = True,
    confirm: int = 3,
    workers: int = 1,
    engine: Engine | str | None = None,
    ahead: int = AHEAD,
    overwrite: bool = False,
    verbose: int = 1,
    stop_hopeless: bool | None = None,
) -> SearchResult:
    """Searches the settings of a distillation with KerasTuner.

    The teacher labels the training split once, for all trials. Each trial
    trains a student as `compress` does, from the same initial weights and in
    the same order, so that trials differ by their settings alone; those of
    one architecture share one compiled step. A student without a teacher,
    the control, is the first trial; the default settings (T = 1,
    alpha = 0.7) are the second. The best settings are then trained again with
    fresh seeds, beside the defaults and the control: the best of many trials
    is partly luck, and this says how much.

        directory/study.json        all trials; a killed search resumes
        directory/trials/           the best student
        directory/targets/          the teacher's answers
        directory/logs/             for TensorBoard, with its HParams page
        directory/search.{html,png}

    Call it again after a crash, or with more `trials`, and it resumes.

    Args:
        teacher: A trained `keras.Model`, a `keras_kd.teachers.Teacher`, or
            `TeacherTargets`, which has one and its stored answers.
        build_student: Returns a new student. If it takes an argument, it is
            given the `keras_tuner.HyperParameters`, so that its architecture
            can be searched.
        data: The validation split chooses; the test split is only measured
            with the fresh seeds.
        trials: Trials in all, the control included.
        directory: Where the search is kept.
        tuner: `"bayesian"`, `"random"`, `"grid"` or `"hyperband"` (which goes
            on with the best of short trials).
        objective: Metric to compare; `None` for the task's headline.
        temperature: Range `(low, high)`, list of choices, or a number.
        alpha: Likewise.
        learning_rate: Likewise: the peak of a cosine decay to zero.
        distillation_losses: See `HyperDistiller`: losses, or a function of
            the hyperparameters that returns them.
        epochs: Of one trial.
        batch_size: Examples in a step.
        loss: Label loss; that of the task if `None`.
        metrics: Metrics to compile with; those of the task if `None`.
        task: What outputs and labels mean, see `keras_kd.tasks`; `None`:
            inferred, if it is certain.
        headline: Output that a dict of tasks is judged by.
        seed: One seed gives one search, with any number of workers.
        control: Whether a student without a teacher is among the trials.
        median_stopping: Whether a trial ends early whose best value is worse
            than the median of the others at the same epoch.
        confirm: Fresh seeds to train the best settings with, the defaults
            and the control; 0 for none.
        workers: Processes that run trials side by side.
        engine: Where trials run: an engine of `kd.engines`, which is left
            open, or `"loky"` (this machine) or `"ray"`, see
            `kd.engines.get`. `None`: loky for several workers.
        ahead: How many trials are under way, proposed and not ended, so how
            many can run side by side. Another number is another search.
        overwrite: Whether to begin again where `directory` holds a search.
        verbose: 0 prints nothing, else a line for each trial, or in a
            terminal a table that grows.
        stop_hopeless: The old name of `median_stopping`.

    Returns:
        A `SearchResult`: `best_settings`, `best_model`, `table`; `print` it.

    Raises:
        ValueError: If an argument is wrong, or `directory` holds another
            search.
        SearchError: A `RuntimeError`, if trials fail one after the other.

    Example:

    ```python
    result = kd.search(
        teacher, build_student, data, trials=20, directory="searches/shoes"
    )
    print(result)
    report = kd.compress(
        teacher, build_student, data, "saved_models/shoes",
        **result.best_settings,
    )
    ```
    """
    if stop_hopeless is not None:
        warnings.warn(
            "`stop_hopeless` is now called `median_stopping`. Expected "
            f"median_stopping={stop_hopeless!r}. "
            f"Received: stop_hopeless={stop_hopeless!r}",
            FutureWarning,
            stacklevel=2,
        )
        median_stopping = stop_hopeless
    directory = check_folder(directory)
    data = as_data(data)
    _check_counts(trials, epochs, batch_size, confirm, workers, control, ahead)
    oracles.check_tuner(tuner)
    given = engine
    engine = engines.get(given, workers, directory / "workers.log")
    space: dict[str, Any] = {
        "temperature": temperature,
        "alpha": alpha,
        "learning_rate": learning_rate,
        "distillation_losses": distillation_losses,
        "loss": loss,
        "metrics": metrics,
    }
    # Raises before long work.
    hyper = HyperDistiller(None, build_student, **space)
    student = hyper.build_student(keras_tuner.HyperParameters())
    check_values(data, student)
    space["task"] = task_to_search(
        task, headline, student, data, loss, objective
    )
    hyper = HyperDistiller(None, build_student, **space)
    if isinstance(teacher, TeacherTargets):
        targets = teacher
    else:
        losses = losses_of(hyper.distillation_losses)
        targets = TeacherTargets(
            teacher, data, losses, targets_folder(directory), verbose
        )
    hyper = HyperDistiller(targets.teacher, build_student, **space)
    objective = objective_of(objective, space["task"], loss)
    hyperparameters = keras_tuner.HyperParameters()
    # Declares what is searched; raises if teacher and student do not fit.
    hyper.build(hyperparameters)
    definition = definition_of(
        targets,
        build_student,
        lambda: hyper.build_student(keras_tuner.HyperParameters()),
        hyperparameters,
        space,
        [epochs, batch_size, seed, median_stopping],
        [str(objective), tuner, control],
        *([written(space["task"])] if task is not None else []),
    )
    oracle = oracles.make_oracle(
        tuner, objective, trials - control, seed, epochs, hyperparameters, ahead
    )
    busy = f"Another process searches in {directory}. Expected one at a time."
    with file_lock(directory, busy):
        if overwrite:
            clear(directory)
        for folder in (directory, directory / "trials"):
            sweep(folder, lease=0)  # nobody else writes there now
        study = Study(directory, definition, oracle, control, ahead)
        study.propose()
        with contextlib.ExitStack() as stack:
            if engine is not given:
                stack.callback(engine.close)
            if study.unfinished():
                warm(engine)
            else:
                engine = engines.Serial()
            job = Job(
                directory,
                build_student,
                # Trials do not look at the test split.
                dataclasses.replace(data, test=data.validation),
                targets.for_training(),
                space,
                objective=objective,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                median_stopping=median_stopping,
                keep_all=tuner == "hyperband",
            )
            _run(job, study, trials, engine, verbose)
        result = SearchResult(job, study)
        if confirm and result.best is not None:
            result.confirmed = confirm_settings(
                job, targets, result.best_hyperparameters, confirm, verbose
            )
        result.save()
    return result


def _run(job, study, trials, engine, verbose):
    """Runs what is left of a search, and shows it."""
    name, direction = job.objective.name, job.objective.direction
    slots = min(engine.slots, study.ahead)
    if slots < engine.slots:
        say(
            f"{slots} workers of {engine.slots} are used: ahead={slots}.",
            verbose,
        )
    shown = name, trials, direction, slots, console_for(verbose), str(engine)
    table = LiveTable(*shown)
    table.begin(study.rows())
    for row in study.rows():  # a log may be missing, if that was the end
        if row.status != RUNNING:
            log_trial(job.directory / "logs", row, name)
    try:
        run_trials(job, study, engine, table.running, table.ended)
    finally:
        table.close()


def _check_counts(trials, epochs, batch_size, confirm, workers, control, ahead):
    counts = {
        "trials": (trials, 1 + control),
        "epochs": (epochs, 1),
        "batch_size": (batch_size, 1),
        "confirm": (confirm, 0),
        "workers": (workers, 1),
        "ahead": (ahead, 1),
    }
    for name, (value, least) in counts.items():
        check_count(name, value, least)
