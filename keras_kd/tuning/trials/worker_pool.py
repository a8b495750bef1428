# SPDX-License-Identifier: Apache-2.0
"""WorkerPool: several worker processes on one machine, watched by this one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.worker import SearchError

POLL = 0.5
LIVES = 3
"""How often each worker may die before the search gives up."""


class WorkerPool:
    """Workers that run the trials of a search side by side.

    A context manager. They start at once and load TensorFlow, which takes
    seconds, while this process labels and prepares; they wait for the job.
    They share the cores of the machine evenly: this process, whose threads
    are for all cores, is none of them, since beside it they would be slower.

    Args:
        directory: Folder of the search.
        count: Number of workers.
    """

    def __init__(self, directory: pathlib.Path, count: int):
        self.directory = directory
        self.count = count
        self._workers: list[subprocess.Popen] = []
        self._before = 0

    def __enter__(self) -> WorkerPool:
        self.directory.mkdir(parents=True, exist_ok=True)
        # What a killed search has left, or one that runs, is not what they
        # wait for.
        self._before = Job.written_at(self.directory)
        self._workers = [self._start() for _ in range(self.count)]
        return self

    def __exit__(self, *_) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()

    def run(
        self,
        job: Job,
        study: Study,
        running: Callable[[TrialRecord], None],
        ended: Callable[[TrialRecord], None],
    ) -> None:
        """Runs all trials of the search.

        A worker that dies is replaced; its trial is run again by whoever is
        free.

        Args:
            job: The search.
            study: Its state.
            running: Is told of each trial that begins.
            ended: Is told of each trial that has ended.

        Raises:
            ValueError: If the job cannot be handed to other processes.
            SearchError: If a worker ends with an error, or dies too often.
        """
        seen = {row.name: row.status for row in study.rows()}

        def tell():
            for row in study.rows():
                if seen.get(row.name) == row.status:
                    continue
                if row.name not in seen or row.status == RUNNING:
                    running(row)
                if row.status != RUNNING:
                    ended(row)
                seen[row.name] = row.status

        job.write()
        lives = LIVES * self.count
        while self._workers:
            time.sleep(POLL)
            tell()
            for worker in list(self._workers):
                code = worker.poll()
                if code is None:
                    continue
                self._workers.remove(worker)
                if code == 0:
                    continue
                if code > 0:
                    raise SearchError(self._last_words())
                lives -= 1
                if not lives:
                    raise SearchError(
                        f"Workers were killed {LIVES * self.count} times, the "
                        f"last one by signal {-code}. Is there memory enough "
                        f"for {self.count} of them? Finished trials are kept: "
                        "call again, with fewer `workers`."
                    )
                self._workers.append(self._start())
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
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "keras_kd.tuning.trials.worker",
                    str(self.directory),
                    "--parent",
                    str(os.getpid()),
                    "--after",
                    str(self._before),
                ],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def _last_words(self):
        path = self.directory / "workers.log"
        text = path.read_text("utf-8", "replace").strip().splitlines()
        said = [line for line in text if line.startswith("keras-kd: ")]
        last = "\n".join(text[-15:])
        if said:
            last = said[-1].removeprefix("keras-kd: ")
        return f"A worker of the search stopped ({path}): {last}"
