# SPDX-License-Identifier: Apache-2.0
"""WorkerPool: several worker processes on one machine, watched by this one."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from keras_kd.tuning.trials import worker
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord

POLL = 0.5
MOST_DEATHS = 3
"""Deaths per worker after which the search gives up."""


class WorkerPool:
    """Workers that run the trials of a search side by side.

    A context manager. They start at once and load TensorFlow, which takes
    seconds, while this process labels and prepares; they wait for the job.
    They share the cores of the machine evenly: this process, whose threads
    are for all cores, is none of them, since beside it they would be slower.
    """

    def __init__(self, directory: pathlib.Path, count: int):
        self.directory = directory
        self.count = count
        self._workers: list[subprocess.Popen] = []

    def __enter__(self) -> WorkerPool:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._workers = [self._start() for _ in range(self.count)]
        return self

    def __exit__(self, *_) -> None:
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            process.communicate()

    def run(
        self,
        job: Job,
        study: Study,
        running: Callable[[TrialRecord], None],
        ended: Callable[[TrialRecord], None],
    ) -> None:
        """Runs all trials of the search, and tells of them as `work` does.

        A worker that dies is replaced; its trial is run again by whoever is
        free. Raises `SearchError` if one ends with an error, or they die too
        often.
        """
        told = {row.name: row.status for row in study.rows()}

        def tell():
            for row in study.rows():
                if told.get(row.name) != row.status:
                    told[row.name] = row.status
                    (running if row.status == RUNNING else ended)(row)

        job.write()
        for process in self._workers:
            _release(process)
        deaths, most = 0, MOST_DEATHS * self.count
        while self._workers:
            time.sleep(POLL)
            tell()
            for process in list(self._workers):
                code = process.poll()
                if code is None:
                    continue
                self._workers.remove(process)
                if code > 0:
                    raise worker.SearchError(self._last_words())
                if code == 0:
                    continue
                deaths += 1
                if deaths == most:
                    raise worker.SearchError(
                        f"Workers were killed {most} times, the last one by "
                        f"signal {-code}. Is there memory enough for "
                        f"{self.count} of them? Finished trials are kept: "
                        "call again, with fewer `workers`."
                    )
                self._workers.append(self._start())
                _release(self._workers[-1])
        tell()

    def _start(self):
        threads = str(max(1, (os.cpu_count() or 1) // self.count))
        environment = {
            **os.environ,
            "TF_NUM_INTRAOP_THREADS": threads,
            "TF_NUM_INTEROP_THREADS": threads,
            "OMP_NUM_THREADS": threads,
            # What the user's functions import is found there, too.
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with open(self.directory / "workers.log", "ab") as log:
            command = [sys.executable, "-m", worker.__name__, self.directory]
            return subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def _last_words(self):
        path = self.directory / "workers.log"
        lines = path.read_text("utf-8", "replace").strip().splitlines()
        said = [line for line in lines if line.startswith(worker.PREFIX)]
        last = "\n".join(said[-1:] or lines[-15:]).removeprefix(worker.PREFIX)
        return f"A worker of the search stopped ({path}): {last}"


def _release(process):
    """Tells a worker that the job is written."""
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(b"\n")
