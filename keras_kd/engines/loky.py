# SPDX-License-Identifier: Apache-2.0
"""Loky: an engine of several processes on this machine."""

from __future__ import annotations

import dataclasses
import os
import queue
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from joblib.externals.loky import process_executor

from keras_kd.core.processes import end_with
from keras_kd.engines import shipping
from keras_kd.engines.base import Engine
from keras_kd.engines.base import TaskLostError

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Loky(Engine):
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

    def __init__(
        self,
        workers: int = 2,
        threads: int | None = None,
        retries: int = 2,
        log: str | os.PathLike | None = None,
    ):
        if workers < 1 or retries < 0 or (threads is not None and threads < 1):
            raise ValueError(
                "Expected at least one worker, one thread and no negative "
                f"retries. Received: workers={workers}, threads={threads}, "
                f"retries={retries}"
            )
        self.slots, self.retries, self.log = workers, retries, log
        self.threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._shared: list[bytes] = []
        # A thread waits for each process. A pool for each, too: all of a
        # pool's processes are ended when one dies.
        self._threads = ThreadPoolExecutor(workers)
        self._pools: dict = dict.fromkeys(range(workers))
        self._free: queue.SimpleQueue = queue.SimpleQueue()
        for place in self._pools:
            self._free.put(place)
        self._lock = threading.Lock()
        self._is_open = True
        self._work: str | None = None

    def share(self, value: Any) -> Any:
        self._shared.append(shipping.packed(value))
        return _Shared(len(self._shared) - 1)

    def submit(self, function: Callable, *arguments: Any) -> Future:
        content = shipping.packed((function, arguments))
        return self._threads.submit(self._run, content)

    def close(self) -> None:
        with self._lock:
            self._is_open = False
        self._threads.shutdown(wait=False, cancel_futures=True)
        for place in self._pools:
            self._end(place)
        self._threads.shutdown()
        # A process that was ended has left there what it was writing.
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)

    def _run(self, content):
        place = self._free.get()
        try:
            for tries_left in reversed(range(self.retries + 1)):
                try:
                    return self._run_once(self._pool(place), content)
                except process_executor.TerminatedWorkerError as error:
                    self.lost += 1
                    self._end(place)
                    if not tries_left:
                        raise TaskLostError(
                            f"its process died {self.retries + 1} times"
                        ) from error
        finally:
            self._free.put(place)

    def _run_once(self, pool, content):
        answer = pool.submit(_run, content).result()
        if isinstance(answer, _Lacks):
            for number in answer.numbers:
                pool.submit(_receive, number, self._shared[number]).result()
            answer = pool.submit(_run, content).result()
        return answer

    def _pool(self, place):
        with self._lock:
            if not self._is_open:
                raise RuntimeError("The engine was closed.")
            if self._pools[place] is None:
                number = str(self.threads)
                if self._work is None:
                    self._work = tempfile.mkdtemp(prefix="keras_kd-")
                self._pools[place] = process_executor.ProcessPoolExecutor(
                    1,
                    initializer=_begin,
                    initargs=(os.getpid(), self._work, self.log),
                    env={
                        "TF_CPP_MIN_LOG_LEVEL": "3",
                        **os.environ,
                        "TMPDIR": self._work,
                        **dict.fromkeys((*THREADS, "OMP_NUM_THREADS"), number),
                    },
                )
                # Starts the process: one at a time, under the lock.
                self._pools[place].submit(int)
            return self._pools[place]

    def _end(self, place):
        pool, self._pools[place] = self._pools[place], None
        if pool is not None:
            pool.shutdown(wait=True, kill_workers=True)


# What runs in the processes.

_VALUES: dict[int, Any] = {}


@dataclasses.dataclass(frozen=True)
class _Shared:
    """Stands for a value that is sent once."""

    number: int


@dataclasses.dataclass(frozen=True)
class _Lacks:
    """Says which values have not come yet."""

    numbers: set[int]


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


def _receive(number, content):
    _VALUES[number] = shipping.unpacked(content)


def _run(content):
    with shipping.portable_errors():
        function, arguments = shipping.unpacked(content)
        numbers = {a.number for a in arguments if isinstance(a, _Shared)}
        if numbers - set(_VALUES):
            return _Lacks(numbers - set(_VALUES))
        return function(
            *[
                _VALUES[a.number] if isinstance(a, _Shared) else a
                for a in arguments
            ]
        )
