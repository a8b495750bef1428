# SPDX-License-Identifier: Apache-2.0
"""A process that runs trials of a search: alone, or beside others.

    python -m keras_kd.tuning.trials.worker DIRECTORY

joins the search in that folder, from any machine that shares it.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Callable

from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.logs import log_trial
from keras_kd.tuning.trials.study import WAIT
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial import keep_best_only
from keras_kd.tuning.trials.trial import run_trial
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord

PREFIX = "keras-kd: "  # of the line that says why a process ended
FAILURES = 3
"""Failed trials in a row that end a search."""


class SearchError(RuntimeError):
    """A search ended because its trials fail; what it has is kept."""


def work(
    job: Job,
    study: Study,
    running: Callable[[TrialRecord], None] = lambda row: None,
    ended: Callable[[TrialRecord], None] = lambda row: None,
    parent: int | None = None,
) -> None:
    """Runs trials until there is none left.

    Args:
        job: The search.
        study: Its state.
        running: Is told of each trial that begins.
        ended: Is told of each trial that has ended.
        parent: Process without which this one should not go on.
    """
    while (attempt := study.take()) is not None:
        if attempt == WAIT:
            time.sleep(1.0)
            continue
        rows = study.rows()
        running(next(row for row in rows if row.name == attempt.name))
        try:
            with study.heartbeats.beating(attempt.token, parent):
                row = run_trial(job, attempt, rows)
        except BaseException:  # Ctrl-C: nobody has to wait for this trial
            study.heartbeats.forget(attempt.token)
            raise
        if not study.finish(attempt, row):
            continue  # it was given to another process meanwhile
        log_trial(job.directory / "logs", row, job.objective.name)
        ended(row)
        rows = study.rows()
        if not job.keep_all:
            keep_best_only(job, rows)
        _check_failures(rows)


def _check_failures(rows):
    done = [row for row in rows if row.status != RUNNING]
    taught = [row for row in done if row.name != CONTROL]
    if done and all(row.status == FAILED for row in done):
        raise SearchError(
            f"Trial {done[-1].name} failed, and so did all before it: the "
            "fault is likely in what all trials share (data, student, "
            f"losses), not in the settings {done[-1].settings}. Mend it and "
            f"call again. Received: {done[-1].message}"
        )
    latest = [row for row in taught[-FAILURES:] if row.status == FAILED]
    if len(latest) == FAILURES:
        raise SearchError(
            f"{FAILURES} trials in a row failed, the last one, "
            f"{latest[-1].name}, with the settings {latest[-1].settings}. "
            "Narrow the ranges or mend the cause. Received: "
            f"{latest[-1].message}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Joins a search; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.parent and not sys.stdin.readline():
        return 1  # the search ended before it had written its job
    job = Job.read(options.directory)
    study = Study(job.directory)
    try:
        work(job, study, parent=options.parent)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"{PREFIX}{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
