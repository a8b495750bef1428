# SPDX-License-Identifier: Apache-2.0
"""Running one trial, and keeping what the next steps need of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import statistics
import time
from collections.abc import Sequence

import keras
import keras_tuner

from keras_kd.core.records import replacing
from keras_kd.training.trainer import fit_best
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.study import Attempt
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

ENOUGH = 4
"""Finished trials before one can be stopped early."""


def run_trial(
    job: Job, attempt: Attempt, rows: Sequence[TrialRecord]
) -> TrialRecord:
    """Trains the student of one trial, keeps it on disk and says how it went.

    A trial that raises has failed; the error is its message.
    """
    row = next(row for row in rows if row.name == attempt.name)
    history, value, message = {}, None, None
    began = time.perf_counter()
    try:
        if attempt.name == CONTROL:
            history, status = _control(job), COMPLETED
        else:
            history, status = _taught(job, attempt, rows)
        value = best_value(job.objective, history)
        if value is None:
            message = f"{job.objective.name} was never a number"
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return dataclasses.replace(
        row,
        status=FAILED if message else status,
        objective=value,
        history=history,
        seconds=time.perf_counter() - began,
        message=message,
    )


def _control(job):
    hp = keras_tuner.HyperParameters()  # as they are without a search
    _, facts = job.train(
        hp, job.data, title=None, seed=job.seed, **job.settings(hp)
    )
    return facts["history"]


def _taught(job, attempt, rows):
    hp = attempt.hyperparameters
    keras.utils.set_random_seed(job.seed)
    distiller = job.hyper.build(hp)
    median_stop = MedianStop(job.objective, rows)
    is_whole = "tuner/epochs" not in hp.values
    if earlier := hp.values.get("tuner/trial_id"):
        distiller.load_weights(weights_path(job.directory, earlier))
    history = fit_best(
        functools.partial(job.hyper.fit, hp, distiller),
        job.train_arguments(),
        job.data.validation,
        job.watch,
        callbacks=[median_stop] if job.median_stopping and is_whole else [],
        initial_epoch=hp.values.get("tuner/initial_epoch", 0),
        epochs=hp.values.get("tuner/epochs", job.epochs),
    )["history"]
    if _may_be_best(job.objective, history, rows):
        _keep(model_path(job.directory, attempt.name), distiller.student.save)
    if job.keep_all:
        path = weights_path(job.directory, attempt.name)
        _keep(path, distiller.save_weights)
    return history, (STOPPED if median_stop.stopped else COMPLETED)


class MedianStop(keras.callbacks.Callback):
    """Ends a trial that others were better than at its age.

    The median stopping rule of Golovin et al., 2017, "Google Vizier": a
    trial ends if its best value so far is worse than the median of the
    others' best values by the same epoch. Not in the first third of its
    epochs, and not before four trials have ended.
    """

    def __init__(self, objective, rows: Sequence[TrialRecord]):
        super().__init__()
        self.objective = objective
        self.best = _better(objective)
        self.others = [
            row.history[objective.name]
            for row in rows
            if row.counts and row.name != CONTROL
        ]
        self.values = []
        self.stopped = False

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(logs[self.objective.name])
        age, epochs = epoch + 1, self.params["epochs"]
        if not epochs / 3 <= age < epochs or len(self.others) < ENOUGH:
            return
        # One that was stopped before counts with what it had.
        median = statistics.median(
            self.best(values[:age]) for values in self.others
        )
        own = self.best(self.values)
        if own != median and self.best(own, median) == median:
            self.model.stop_training = True
            self.stopped = True


def model_path(directory: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where the student of a trial is."""
    return directory / "trials" / f"{name}.keras"


def weights_path(directory: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where the weights are that a later trial goes on from."""
    return directory / "trials" / f"{name}.weights.h5"


def best_value(objective, history: dict[str, list]) -> float | None:
    """Returns the best value of a trial's epochs, `None` if it has none."""
    values = [v for v in history[objective.name] if math.isfinite(v)]
    return _better(objective)(values, default=None)


def keep_best_only(job: Job, rows: Sequence[TrialRecord]) -> None:
    """Removes students of trials that have ended and are not the best."""
    best = best_of(rows, job.objective.direction)
    for row in rows:
        ended = row.counts or row.status == FAILED
        if ended and row.name != CONTROL and row is not best:
            model_path(job.directory, row.name).unlink(missing_ok=True)


def _may_be_best(objective, history, rows):
    """Whether no trial that has ended was better, so that it may be kept."""
    value = best_value(objective, history)
    best = best_of(rows, objective.direction)
    if value is None or best is None:
        return value is not None
    return _better(objective)(value, best.objective) == value


def _better(objective):
    return max if objective.direction == "max" else min


def _keep(path, save):
    with replacing(path) as temporary:
        save(temporary)
