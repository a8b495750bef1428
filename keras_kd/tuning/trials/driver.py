# SPDX-License-Identifier: Apache-2.0
"""The driver of a search: hands trials to an engine and keeps what returns."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures

from keras_kd.core.passing_faults import PASSING
from keras_kd.core.records import write_atomically
from keras_kd.engines import Engine
from keras_kd.engines import TaskLostError
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.logs import log_trial
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial import Outcome
from keras_kd.tuning.trials.trial import model_path
from keras_kd.tuning.trials.trial import run_trial
from keras_kd.tuning.trials.trial import weights_path
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

FAILURES = 3
"""Failed trials in a row that end a search."""


class SearchError(RuntimeError):
    """A search ended because its trials fail; what it has is kept."""


def warm(engine: Engine) -> None:
    """Lets the processes of an engine load TensorFlow at once."""
    for _ in range(engine.slots):
        engine.submit(importlib.import_module, __name__)


def run_trials(
    job: Job,
    study: Study,
    engine: Engine,
    running: Callable[[TrialRecord], None],
    ended: Callable[[TrialRecord], None],
) -> None:
    """Runs trials until there is none left.

    Args:
        job: The search.
        study: Its state.
        engine: Where trials run.
        running: Is told of each trial that begins.
        ended: Is told of each trial that has ended.
    """
    shared = engine.share(job.unused())
    waiting = study.unfinished()
    under_way: dict[futures.Future, TrialRecord] = {}
    try:
        while True:
            _keep_best_only(job, study.rows())
            waiting += study.propose()
            while waiting and len(under_way) < engine.slots:
                row = study.begin(waiting.pop(0), engine.here)
                running(row)
                task = _task(job, study, row)
                under_way[engine.submit(run_trial, shared, *task)] = row
            if not under_way:
                return
            futures.wait(under_way, return_when=futures.FIRST_COMPLETED)
            for future in [f for f in under_way if f.done()]:
                outcome = _outcome(study, under_way.pop(future), future)
                _keep(job, study, outcome)
                log_trial(
                    job.directory / "logs", outcome.row, job.objective.name
                )
                ended(outcome.row)
                _check_failures(study.rows())
    except (KeyboardInterrupt, *PASSING):
        # No trial's fault; a disk that is full may take not even this.
        with contextlib.suppress(OSError):
            study.give_back()
        raise


def _task(job, study, row):
    hp = study.hyperparameters(row.name)
    weights = None
    if hp is not None and (earlier := hp.values.get("tuner/trial_id")):
        path = weights_path(job.directory, earlier)
        weights = study.sound(path).read_bytes()
    return row, hp, study.known_to(row.name), weights


def _outcome(study, row, future):
    try:
        return future.result()
    except TaskLostError as error:
        row = dataclasses.replace(row, status=FAILED, message=str(error))
        return Outcome(row, study.hyperparameters(row.name))


def _keep(job, study, outcome):
    """Keeps a trial; its files first, since with its record it has ended."""
    row, rows, files = outcome.row, study.rows(), []
    rows = [row if other.name == row.name else other for other in rows]
    if outcome.student and best_of(rows, job.objective.direction) is row:
        path = model_path(job.directory, row.name)
        write_atomically(path, outcome.student)
        files.append(path)
    if outcome.weights:
        path = weights_path(job.directory, row.name)
        write_atomically(path, outcome.weights)
        files.append(path)
    study.end(row, outcome.found, files)


def _keep_best_only(job: Job, rows: Sequence[TrialRecord]) -> None:
    """Removes students of trials that have ended and are not the best."""
    best = best_of(rows, job.objective.direction)
    for row in rows:
        if row.status != RUNNING and row is not best and not job.keep_all:
            model_path(job.directory, row.name).unlink(missing_ok=True)


def _check_failures(rows):
    done = [row for row in rows if row.status != RUNNING]
    taught = [row for row in done if row.name != CONTROL]
    if done and all(row.status == FAILED for row in done):
        raise SearchError(
            f"Trial {done[-1].name} failed, and so did all before it: the "
            "cause is probably in what all trials share (data, student, "
            f"losses), not in the settings {done[-1].settings}. Fix it and "
            f"call again. Received: {done[-1].message}"
        )
    latest = [row for row in taught[-FAILURES:] if row.status == FAILED]
    if len(latest) == FAILURES:
        raise SearchError(
            f"{FAILURES} trials in a row failed, the last one, "
            f"{latest[-1].name}, with the settings {latest[-1].settings}. "
            "Narrow the ranges or fix the cause. Received: "
            f"{latest[-1].message}"
        )
