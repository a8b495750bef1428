# SPDX-License-Identifier: Apache-2.0
"""Pool: what engines have in common that run tasks in other processes."""

from __future__ import annotations

import abc
import dataclasses
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keras_kd.engines import shipping
from keras_kd.engines import worker
from keras_kd.engines.base import Engine
from keras_kd.engines.base import TaskLostError


class Pool(Engine):
    """Runs each task in one of several processes that live on.

    A thread of this process waits for each of them. One whose process has
    died is replaced and its task tried again, and only that.

    Args:
        workers: How many processes.
        threads: Threads of TensorFlow in each.
        retries: How often a task is tried again whose process has died.

    Raises:
        ValueError: If a number makes no sense.
    """

    died: tuple[type[Exception], ...]
    """What `_call` raises where the process is gone."""

    def __init__(self, workers: int, threads: int, retries: int):
        if workers < 1 or retries < 0 or threads < 1:
            raise ValueError(
                "Expected at least one worker, one thread and no negative "
                f"retries. Received: workers={workers}, threads={threads}, "
                f"retries={retries}"
            )
        self.slots, self.threads, self.retries = workers, threads, retries
        self._shared: list[Any] = []
        self._threads = ThreadPoolExecutor(workers)
        self._places = [_Place() for _ in range(workers)]
        self._free: queue.SimpleQueue = queue.SimpleQueue()
        for place in self._places:
            self._free.put(place)
        self._lock = threading.Lock()
        self._is_open = True

    def share(self, value: Any) -> Any:
        self._shared.append(self._packed(value))
        return worker.Shared(len(self._shared) - 1)

    def submit(self, function: Callable, *arguments: Any) -> Future:
        content = self._packed((function, arguments))
        numbers = worker.numbers_of(arguments)
        return self._threads.submit(self._run, content, numbers)

    def close(self) -> None:
        with self._lock:
            self._is_open = False
        self._threads.shutdown(wait=False, cancel_futures=True)
        for place in self._places:
            self._leave(place)
        self._threads.shutdown()

    def __str__(self):
        each = "thread" if self.threads == 1 else "threads"
        return f"{type(self).__name__} ({self.slots} x {self.threads} {each})"

    @abc.abstractmethod
    def _start(self) -> Any:
        """Returns a new worker, perhaps before its process has started."""

    @abc.abstractmethod
    def _call(self, of: Any, function: Callable, *arguments: Any) -> Any:
        """Returns what a function of `engines.worker` returns there."""

    @abc.abstractmethod
    def _end(self, of: Any) -> None:
        """Ends a worker at once."""

    def _log(self, of: Any) -> str | None:
        """Returns where a worker prints, if that is known."""

    def _packed(self, value):
        return shipping.packed(value)

    def _has_begun(self, of: Any) -> bool:
        """Waits a moment for a new worker; whether it can be called."""
        return True

    def _run(self, content, numbers):
        place, tries_left = self._free.get(), self.retries
        try:
            while True:
                try:
                    if self._has_begun(self._worker(place)):
                        return self._run_once(place, content, numbers)
                    place = self._exchanged(place)
                except self.died as error:
                    log = self._log(place.worker)
                    self._leave(place)
                    with self._lock:
                        self.lost += 1
                    if not tries_left:
                        where = f". It printed to {log}" if log else ""
                        raise TaskLostError(
                            f"its process died {self.retries + 1} times{where}"
                        ) from error
                    tries_left -= 1
        finally:
            self._free.put(place)

    def _worker(self, place):
        with self._lock:
            if not self._is_open:
                raise RuntimeError("The engine was closed.")
            if place.worker is None:
                place.worker = self._start()
            return place.worker

    def _exchanged(self, place):
        """Returns a place that is free by now, or the same."""
        try:
            other = self._free.get_nowait()
        except queue.Empty:
            return place
        self._free.put(place)
        return other

    def _run_once(self, place, content, numbers):
        used = self._worker(place)
        for number in sorted(numbers - place.has):
            self._call(used, worker.receive, number, self._shared[number])
            place.has.add(number)
        answer = self._call(used, worker.run, content)
        return worker.answer_of(answer, self._log(used))

    def _leave(self, place):
        left, place.worker, place.has = place.worker, None, set()
        if left is not None:
            self._end(left)


@dataclasses.dataclass
class _Place:
    """One of the slots: its worker, and which shared values that has."""

    worker: Any = None
    has: set[int] = dataclasses.field(default_factory=set)
