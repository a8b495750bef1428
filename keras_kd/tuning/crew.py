# SPDX-License-Identifier: Apache-2.0
"""Crew: worker processes beside this one, on the same machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

from keras_kd.tuning.cores import share_of_cores
from keras_kd.tuning.job import FILE as JOB
from keras_kd.tuning.job import Job
from keras_kd.tuning.rows import RUNNING
from keras_kd.tuning.rows import Row
from keras_kd.tuning.study import Study
from keras_kd.tuning.worker import SearchError
from keras_kd.tuning.worker import work

POLL = 0.5
LIVES = 3
"""How often each worker may die before the search gives up."""


def run_crew(
    job: Job,
    study: Study,
    workers: int,
    running: Callable[[Row], None],
    ended: Callable[[Row], None],
) -> None:
    """Runs all trials of a search in several processes.

    This process is one of them: it has TensorFlow and the data already. A
    worker that dies is replaced; its trial is run again by whoever is free.

    Args:
        job: The search.
        study: Its state.
        workers: Number of processes, this one included.
        running: Is told of each trial that begins, from another thread.
        ended: Is told of each trial that has ended, likewise.

    Raises:
        SearchError: If a worker ends with an error, or dies too often.
    """
    with (
        Crew(job, study, workers - 1, running, ended) as crew,
        share_of_cores(workers, but=crew.thread),
    ):
        work(job, study, lambda row: crew.check())
    crew.check()


class Crew:
    """The workers beside this process, watched by a thread.

    Args:
        job: The search.
        study: Its state.
        count: Number of workers.
        running: Is told of each trial that begins, here or there.
        ended: Is told of each trial that has ended.

    Raises:
        ValueError: If the job cannot be handed to other processes.
    """

    def __init__(
        self,
        job: Job,
        study: Study,
        count: int,
        running: Callable[[Row], None],
        ended: Callable[[Row], None],
    ):
        self.job = job
        self.directory = job.directory
        self._content = job.to_bytes()
        self.study = study
        self.count = count
        self.running, self.ended = running, ended
        self._workers: list[subprocess.Popen] = []
        self._lives = LIVES * count
        self._error: Exception | None = None
        self._seen = {row.name: row.status for row in study.rows()}
        self._left = threading.Event()
        self._watch = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Crew:
        # What a killed search left; they wait for the new one.
        (self.directory / JOB).unlink(missing_ok=True)
        self._watch.start()
        return self

    def __exit__(self, *_) -> None:
        self._left.set()
        self._watch.join()
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.wait()
        if self._error is None:
            self._tell()

    @property
    def thread(self) -> int:
        """Native id of the thread that starts the workers."""
        return self._watch.native_id

    def check(self) -> None:
        """Raises what ended one of the workers, or the watch over them."""
        if self._error is not None:
            raise self._error

    def _run(self):
        try:
            self._workers = [self._start() for _ in range(self.count)]
            # Meanwhile, since they need seconds to load TensorFlow.
            self.job.write(self._content)
            self._content = None
            while not self._left.wait(POLL):
                self._tell()
                self._replace_the_dead()
        except Exception as error:  # raised by `check`, in the main thread
            self._error = error

    def _tell(self):
        for row in self.study.rows():
            if self._seen.get(row.name) == row.status:
                continue
            if row.name not in self._seen or row.status == RUNNING:
                self.running(row)
            if row.status != RUNNING:
                self.ended(row)
            self._seen[row.name] = row.status

    def _replace_the_dead(self):
        for worker in list(self._workers):
            code = worker.poll()
            if code is None:
                continue
            self._workers.remove(worker)
            if code == 0:
                continue
            if code > 0:
                raise SearchError(self._last_words())
            self._lives -= 1
            if not self._lives:
                raise SearchError(
                    f"Workers were killed {LIVES * self.count} times, the "
                    f"last one by signal {-code}. Is there memory enough for "
                    f"{self.count + 1} processes? Finished trials are kept: "
                    "call again, with fewer `workers`."
                )
            self._workers.append(self._start())

    def _start(self):
        threads = str(max(1, (os.cpu_count() or 1) // (self.count + 1)))
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
                    "keras_kd.tuning.worker",
                    str(self.directory),
                    "--parent",
                    str(os.getpid()),
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
