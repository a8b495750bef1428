# SPDX-License-Identifier: Apache-2.0
"""search(): KerasTuner looks for the temperature, alpha and more."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner

from keras_kd.core import output_heads
from keras_kd.core.progress import console_for
from keras_kd.core.type_aliases import LabelLossLike
from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import MetricLike
from keras_kd.core.type_aliases import SearchedLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.splits import Data
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.teacher_targets import targets_folder
from keras_kd.training.trainer import default_metrics
from keras_kd.tuning.display.table import LiveTable
from keras_kd.tuning.result import SearchResult
from keras_kd.tuning.space import oracles
from keras_kd.tuning.space.definition import definition_of
from keras_kd.tuning.space.definition import losses_of
from keras_kd.tuning.space.hyper_distiller import HyperDistiller
from keras_kd.tuning.trials.confirmed import confirm_settings
from keras_kd.tuning.trials.job import FILE as JOB
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.logs import log_trial
from keras_kd.tuning.trials.study import FILE as STUDY
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.worker import work
from keras_kd.tuning.trials.worker_pool import WorkerPool


def search(
    teacher: TeacherLike | TeacherTargets,
    build_student: Callable[..., keras.Model],
    data: Data,
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
    seed: int = 0,
    control: bool = True,
    median_stopping: bool = True,
    confirm: int = 3,
    workers: int = 1,
    overwrite: bool = False,
    verbose: int = 1,
    stop_hopeless: bool | None = None,
) -> SearchResult:
    """Searches the settings of a distillation with KerasTuner.

    The teacher labels the training split once, for all trials. Each trial
    trains a student as `compress` does, from the same initial weights and in
    the same order, so that trials differ by their settings alone; those of
    one architecture share one compiled step. A student without a teacher,
    the control, is the first trial; the default settings (T = 4,
    alpha = 0.7) are the second. The best settings are then trained again with
    fresh seeds, beside the defaults and the control: the best of many trials
    is partly luck, and this says how much.

        directory/study.json        all trials; a killed search goes on
        directory/trials/           the best student
        directory/targets/          the teacher's answers
        directory/logs/             for TensorBoard, with its HParams page
        directory/search.{html,png}

    Call it again after a crash and it goes on; with more `trials`, too.

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
        objective: Metric to compare; `None` for `"val_accuracy"`, or
            `"val_loss"` where there is no accuracy.
        temperature: Range `(low, high)`, list of choices, or a number.
        alpha: Likewise.
        learning_rate: Likewise: the peak of a cosine decay to zero.
        distillation_losses: See `HyperDistiller`: losses, or a function of
            the hyperparameters that returns them.
        epochs: Of one trial.
        batch_size: Examples in a step.
        loss: Label loss; read off the student if `None`.
        metrics: Metrics to compile with; `None` for accuracy.
        seed: One seed gives one search (with one worker).
        control: Whether a student without a teacher is among the trials.
        median_stopping: Whether a trial ends early whose best value is worse
            than the median of the others at the same epoch.
        confirm: Fresh seeds to train the best settings with, the defaults
            and the control; 0 for none.
        workers: Processes on this machine that run trials side by side.
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
    _check_counts(trials, epochs, confirm, workers, control)
    oracles.check_tuner(tuner)
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
    objective = _objective(objective, hyper)
    directory = pathlib.Path(directory).absolute()
    if overwrite:
        _clear(directory)
    if isinstance(teacher, TeacherTargets):
        targets = teacher
    else:
        losses = losses_of(distillation_losses)
        targets = TeacherTargets(
            teacher, data, losses, targets_folder(directory), verbose
        )
    several = workers > 1
    if several and not targets.runs_once:
        raise ValueError(
            "Several workers share the teacher's stored answers, and this "
            "teacher's cannot be stored, or the training split is no arrays. "
            f"Pass workers=1. Received: workers={workers}"
        )
    none = contextlib.nullcontext()
    with WorkerPool(directory, workers) if several else none as pool:
        job = Job(
            directory,
            build_student,
            # Trials do not look at the test split.
            dataclasses.replace(data, test=data.validation),
            teacher=None if targets.runs_once else targets.teacher,
            cache=targets.store().directory if targets.runs_once else None,
            in_memory=targets.in_memory,
            space=space,
            objective=objective,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            median_stopping=median_stopping,
            keep_all=tuner == "hyperband",
        )
        hyperparameters = keras_tuner.HyperParameters()
        job.hyper.build(hyperparameters)  # declares what is searched
        study = Study(
            directory,
            lambda: oracles.make_oracle(
                tuner, objective, trials, seed, epochs, hyperparameters
            ),
            definition_of(job, targets, tuner, hyperparameters, control),
            control,
        )
        study.set_trials(trials - control)
        _run(job, study, trials, pool, verbose)
    result = SearchResult(job, study)
    if confirm and result.best is not None:
        result.confirmed = confirm_settings(
            job, targets, result.best_hyperparameters, confirm, verbose
        )
    result.save()
    return result


def _run(job, study, trials, pool, verbose):
    """Runs what is left of a search, and shows it."""
    name, direction = job.objective.name, job.objective.direction
    workers = 1 if pool is None else pool.count
    table = LiveTable(name, trials, direction, workers, console_for(verbose))
    done = [row for row in study.rows() if row.status != RUNNING]
    table.begin(done)
    for row in done:  # of one the log may be missing, if that was the end
        log_trial(job.directory / "logs", row, name)
    run = work if pool is None else pool.run
    try:
        run(job, study, table.running, table.ended)
    finally:
        table.close()
        (job.directory / JOB).unlink(missing_ok=True)


def _objective(objective, hyper):
    loss = hyper.loss
    if loss is None:
        student = hyper.build_student(keras_tuner.HyperParameters())
        loss = output_heads.default_loss(student)
    classifies = bool(default_metrics(loss))
    if objective is None:
        objective = "val_accuracy" if classifies else "val_loss"
    name = getattr(objective, "name", objective)
    if name == "val_loss" and classifies:
        warnings.warn(
            "The objective val_loss is the student's loss on the labels. The "
            "temperature and alpha set how sure of itself a student is, and "
            "that moves this loss more than right and wrong answers do: its "
            "minimum is not the best student. Expected a metric that does "
            "not depend on them, such as objective='val_accuracy'.",
            stacklevel=3,
        )
    if not isinstance(name, str) or not name.startswith("val_"):
        raise ValueError(
            "`objective` must be measured on the validation split, and its "
            "name starts with 'val_'. What is measured in training depends "
            "on the temperature and alpha, or on what the student has "
            f"learnt by heart. Received: objective={objective!r}"
        )
    # The oracle knows which metrics are better large.
    return keras_tuner.oracles.RandomSearchOracle(objective).objective


def _check_counts(trials, epochs, confirm, workers, control):
    counts = {
        "trials": (trials, 1 + control),
        "epochs": (epochs, 1),
        "confirm": (confirm, 0),
        "workers": (workers, 1),
    }
    for name, (value, least) in counts.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(
                f"`{name}` must be a whole number of at least {least}. "
                f"Received: {name}={value!r}"
            )


def _clear(directory):
    """Removes a search; nothing else that is in the folder."""
    for name in (STUDY, JOB, "workers.log", "search.html", "search.png"):
        (directory / name).unlink(missing_ok=True)
    # Up to version 0.1 the heartbeats were in `alive`.
    for name in ("trials", "heartbeats", "alive", "logs", "confirm"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory / name)
