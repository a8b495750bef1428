# SPDX-License-Identifier: Apache-2.0
"""Loky: an engine of several processes on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

from joblib.externals.loky import process_executor

from keras_kd.core.processes import end_with
from keras_kd.engines import worker
from keras_kd.engines.pool import Pool


class Loky(Pool):
    """Runs tasks in processes of this machine, with loky of joblib.

    A process starts with the first task that finds none free, and all end
    with this one, also where it is killed. Functions and values go to them
    through pipes, never through a file.

    Args:
        workers: How many processes.
        threads: Threads of TensorFlow in each; `None` for an even share of
            the cores.
        retries: How often a task is tried again whose process has died.
        log: File for what the processes print; `None` for where this one
            prints.

    Raises:
        ValueError: If a number makes no sense.

    Example:

    ```python
    with kd.engines.Loky(workers=2) as engine:
        print(engine.submit(pow, 2, 10).result())
    ```
    """

    died = (process_executor.TerminatedWorkerError,)

    def __init__(
        self,
        workers: int = 2,
        threads: int | None = None,
        retries: int = 2,
        log: str | os.PathLike | None = None,
    ):
        if threads is None:
            threads = max(1, (os.cpu_count() or 1) // max(workers, 1))
        super().__init__(workers, threads, retries)
        self.log = log
        self._work: str | None = None

    def close(self) -> None:
        super().close()
        # A process that was ended has left there what it was writing.
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)

    def _start(self):
        if self._work is None:
            self._work = tempfile.mkdtemp(prefix="keras_kd-")
        # A pool for each: all processes of a pool are ended when one dies.
        pool = process_executor.ProcessPoolExecutor(
            1,
            initializer=_begin,
            initargs=(os.getpid(), self._work, self.log),
            env={
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **os.environ,
                "TMPDIR": self._work,
                **worker.environment(self.threads),
            },
        )
        # Starts the process: one at a time, since `_start` is.
        pool.submit(int)
        return pool

    def _call(self, of, function, *arguments):
        return of.submit(function, *arguments).result()

    def _end(self, of):
        of.shutdown(wait=True, kill_workers=True)

    def _log(self, of):
        return None if self.log is None else os.fspath(self.log)


def _begin(parent, work, log):
    # Ctrl-C goes to all of a terminal, and it is the parent that ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Where memory grows by 300 MB loky begins a process anew. A compiled
    # training grows by more, and would be lost.
    process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
    end_with(parent, lambda: shutil.rmtree(work, ignore_errors=True))
