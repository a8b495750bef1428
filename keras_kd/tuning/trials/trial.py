# SPDX-License-Identifier: Apache-2.0
"""Running one trial, in whatever process."""

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

from keras_kd.core.folders import file_content
from keras_kd.core.folders import work_folder
from keras_kd.core.keras_settings import apply_settings
from keras_kd.core.passing_faults import is_passing
from keras_kd.training.trainer import fit_best
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

ENOUGH = 4
"""Finished trials before one can be stopped early."""
STUDENT, WEIGHTS = ".keras", ".weights.h5"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What comes back of a trial, since no folder is shared.

    Args:
        row: How it went.
        found: The settings, with what the trial has asked for meanwhile.
        student: The file of the student, where it may be the best.
        weights: The file that a later trial goes on from, if one may.
    """

    row: TrialRecord
    found: keras_tuner.HyperParameters | None = None
    student: bytes | None = None
    weights: bytes | None = None


def run_trial(
    job: Job,
    row: TrialRecord,
    hp: keras_tuner.HyperParameters | None,
    rows: Sequence[TrialRecord],
    weights: bytes | None,
) -> Outcome:
    """Trains the student of one trial and says how it went.

    A trial that raises has failed; the error is its message. Not so where
    the disk is full, a file cannot be read or memory runs out: that is no
    fault of its settings, and the error is raised.

    Args:
        job: The search.
        row: The trial.
        hp: Its settings; `None` for the control.
        rows: What had ended before it was proposed.
        weights: What it goes on from.
    """
    outcome, message = Outcome(row, hp), None
    began = time.perf_counter()
    apply_settings(job.keras_settings)
    try:
        if hp is None:
            outcome = _control(job, row)
        else:
            outcome = _taught(job, row, hp, rows, weights)
        if outcome.row.objective is None:
            message = f"{job.objective.name} was never a number"
    except Exception as error:
        if is_passing(error):
            raise
        message = f"{type(error).__name__}: {error}"
    status = {"status": FAILED} if message else {}
    ended = dataclasses.replace(
        outcome.row,
        seconds=time.perf_counter() - began,
        message=message,
        **status,
    )
    return dataclasses.replace(outcome, row=ended)


def _control(job, row):
    hp = keras_tuner.HyperParameters()  # as they are without a search
    _, facts = job.train(
        hp, job.data, title=None, seed=job.seed, **job.settings(hp)
    )
    return Outcome(_ended(job, row, facts["history"], COMPLETED))


def _taught(job, row, hp, rows, weights):
    keras.utils.set_random_seed(job.seed)
    distiller = job.hyper.build(hp)
    median_stop = MedianStop(job.objective, rows)
    is_whole = "tuner/epochs" not in hp.values
    if weights is not None:
        with work_folder() as folder:
            path = folder / f"earlier{WEIGHTS}"
            path.write_bytes(weights)
            distiller.load_weights(path)
    history = fit_best(
        functools.partial(job.hyper.fit, hp, distiller),
        job.train_arguments(),
        job.data.validation,
        job.watch,
        judging=job.judging,
        callbacks=[median_stop] if job.median_stopping and is_whole else [],
        initial_epoch=hp.values.get("tuner/initial_epoch", 0),
        epochs=hp.values.get("tuner/epochs", job.epochs),
    )["history"]
    row = _ended(
        job, row, history, STOPPED if median_stop.stopped else COMPLETED
    )
    may_be_best = best_of([*rows, row], job.objective.direction) is row
    return Outcome(
        row,
        hp,
        file_content(distiller.student.save, STUDENT) if may_be_best else None,
        file_content(distiller.save_weights, WEIGHTS) if job.keep_all else None,
    )


def _ended(job, row, history, status):
    value = best_value(job.objective, history)
    return dataclasses.replace(
        row, status=status, objective=value, history=history
    )


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
    return directory / "trials" / f"{name}{STUDENT}"


def weights_path(directory: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where the weights are that a later trial goes on from."""
    return directory / "trials" / f"{name}{WEIGHTS}"


def best_value(objective, history: dict[str, list]) -> float | None:
    """Returns the best value of a trial's epochs, `None` if it has none."""
    values = [v for v in history[objective.name] if math.isfinite(v)]
    return _better(objective)(values, default=None)


def _better(objective):
    return max if objective.direction == "max" else min
