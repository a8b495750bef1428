# SPDX-License-Identifier: Apache-2.0
"""Ray: an engine of processes on the machines of a Ray cluster."""

from __future__ import annotations

import dataclasses
import logging
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

from keras_kd.core.extras import import_extra
from keras_kd.engines import shipping
from keras_kd.engines import worker
from keras_kd.engines.one_student import Training
from keras_kd.engines.one_student import train_together
from keras_kd.engines.pool import Pool
from keras_kd.engines.ray_worker import worker_class

LOCAL = "local"
PATIENCE = 30.0
"""Seconds without an answer after which a person is told why."""


class Ray(Pool):
    """Runs tasks in Ray's processes, on one machine or on many.

    Needs Ray: `pip install 'keras_kd[ray]'`. Each process is an actor that
    lives until the engine is closed, so compiled steps and shared values
    stay in it. Other machines need the same versions of Python, keras_kd,
    tensorflow and keras; modules of your own are sent to them.

    Args:
        address: `"local"` starts a cluster on this machine, which ends with
            the engine. Else as `ray.init` takes it: `"auto"` or
            `"host:6379"` of a cluster that `ray start --head` has begun.
            Where `ray.init` was called before, that connection is used.
        workers: How many processes.
        threads: Threads of TensorFlow in each, and the CPUs that Ray counts
            for it.
        gpus: GPUs of each process, which no other is given; below 1 several
            share one. Memory is taken as it is needed. 0: none is seen.
        retries: How often a task is tried again whose process or machine has
            died.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If a number makes no sense.

    Example:

    ```py
    with kd.engines.Ray("auto", workers=8, gpus=1) as engine:
        kd.search(teacher, build_student, data, engine=engine)
    ```
    """

    def __init__(
        self,
        address: str = LOCAL,
        workers: int = 2,
        threads: int = 1,
        gpus: float = 0,
        retries: int = 2,
    ):
        super().__init__(workers, threads, retries)
        if gpus < 0:
            raise ValueError(f"Expected gpus >= 0. Received: gpus={gpus}")
        self.address, self.gpus = address, gpus
        self._ray: Any = import_extra("ray", "ray", "kd.engines.Ray")
        errors = self._ray.exceptions
        self.died = (
            errors.RayActorError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
            errors.WorkerCrashedError,
        )
        self._is_mine = self._is_local = False
        self._stored: dict[int, Any] = {}

    def __str__(self):
        return f"{super().__str__()[:-1]}, address {self.address!r})"

    def submit(self, function, *arguments):
        self._connect()
        return super().submit(function, *arguments)

    def share(self, value):
        self._connect()
        return super().share(value)

    def close(self):
        super().close()
        self._stored.clear()
        if self._is_mine:
            self._is_mine = False
            self._ray.shutdown()

    def fit(
        self,
        build: Callable[[], Any],
        data: Any,
        *,
        batch_size: int = 128,
        seed: int = 0,
        backup: str | os.PathLike | None = None,
        **options: Any,
    ) -> tuple[bytes, dict[str, list[float]]]:
        """Trains one student on all workers at once. Experimental.

        Each worker takes its share of every batch, and all make the same
        step (`tf.distribute.MultiWorkerMirroredStrategy`), so that the losses
        are those of one process. It overrides two private methods of Keras,
        whose `fit` fails there, and works with the Keras of constraints.txt.

        Args:
            build: Returns a new, compiled `Distiller`, or model; called on
                each worker.
            data: Arrays `(x, y)` as `tf.data.Dataset.from_tensor_slices`
                takes them (`attach_targets` brings a teacher's answers), or
                a function that returns a `tf.data.Dataset` of batches over
                all workers, equal on each.
            batch_size: For arrays: over all workers. A rest is left out.
            seed: Of the weights and of the shuffling.
            backup: Folder for what a rerun goes on from after a death, one
                in it for each worker. Shuffling then begins anew.
            **options: Arguments of `fit`, such as `epochs`.

        Returns:
            The content of the student's `.keras` file, which the first
            worker saves, and the history.

        Raises:
            TaskLostError: If a worker died.
        """
        folder = None if backup is None else pathlib.Path(backup).absolute()
        training = Training(build, data, batch_size, seed, folder, options)
        for place in self._places:  # which would take the room
            self._leave(place)
        same = self.address, self.slots, self.threads, self.gpus, 0
        with Ray(*same) as fresh:  # TensorFlow has to start with the others
            fresh._connect()
            return train_together(fresh, training)

    def call_on(self, rank: int, function: Callable, *arguments: Any) -> Any:
        """Returns what a function returns on one of the workers, by number."""
        place = self._places[rank]
        while not self._has_begun(self._worker(place)):
            pass
        content = self._packed((function, arguments))
        return self._run_once(place, content, set())

    def _connect(self):
        if self._ray.is_initialized():
            return
        self._is_local = self.address == LOCAL
        own = {}
        if self._is_local:
            # Logical ones: as many workers as were asked for run at a time.
            own = {"num_cpus": self.slots * self.threads}
        try:
            self._ray.init(
                # Named, or Ray would join what an earlier one has left.
                address=self.address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if self._is_local else None,
                **own,
            )
        except Exception as error:
            raise ConnectionError(
                f"Ray cannot be reached. Expected address={LOCAL!r}, or that "
                "of a cluster that runs (`ray start --head`), with its token "
                f"if it asks for one. Received: address={self.address!r}, "
                f"{type(error).__name__}: {error}"
            ) from error
        self._is_mine = True
        has = self._ray.cluster_resources().get("GPU", 0)
        if self._is_local and has < self.gpus * self.slots:
            self.close()
            raise ValueError(
                f"This machine has {has:.0f} GPUs. Expected {self.slots} "
                f"workers with {self.gpus} each, or gpus=0."
            )

    def _packed(self, value):
        return shipping.packed(value, everywhere=not self._is_local)

    def _start(self):
        actor = self._ray.remote(
            num_cpus=self.threads, num_gpus=self.gpus, max_restarts=0
        )(worker_class()).remote()
        wanted = worker.environment(self.threads)
        if not self.gpus:
            wanted["CUDA_VISIBLE_DEVICES"] = "-1"
        # Modules of this machine are imported there, those of others sent.
        path = sys.path if self._is_local else []
        return _Actor(actor, actor.begin.remote(wanted, path))

    def _call(self, of, function, *arguments):
        if function is worker.receive:
            number, content = arguments
            with self._lock:
                if number not in self._stored:  # once for all machines
                    self._stored[number] = self._ray.put(content)
                arguments = number, self._stored[number]
        answer = of.actor.call.remote(function.__name__, *arguments)
        return self._ray.get(answer)

    def _end(self, of):
        self._ray.kill(of.actor, no_restart=True)

    def _log(self, of):
        return of and of.log

    def _has_begun(self, of):
        if of.log is not None:
            return True
        if not self._ray.wait([of.begun], timeout=1.0)[0]:
            if time.monotonic() - of.since > PATIENCE:
                # Imports Keras, which a process of an engine begins without.
                from keras_kd.core.progress import say

                say(self._why_waiting())
                of.since = time.monotonic()
            return False
        of.log, theirs = self._ray.get(of.begun)
        ours = worker_class().versions()
        if theirs != ours:
            raise RuntimeError(
                "Driver and workers must run the same versions. Expected: "
                f"{ours}. Received: {theirs}, in the process that prints to "
                f"{of.log}. Install them there: pip install 'keras_kd[ray]' "
                "with the same constraints."
            )
        return True

    def _why_waiting(self):
        free, whole = (
            {name: found.get(name, 0) for name in ("CPU", "GPU")}
            for found in (
                self._ray.available_resources(),
                self._ray.cluster_resources(),
            )
        )
        wanted = {"CPU": self.threads, "GPU": self.gpus}
        lacking = [name for name in wanted if free[name] < wanted[name]]
        what = " and ".join(f"{name}s" for name in lacking)
        why = f"no free {what} in the cluster" if what else "no process started"
        each = " and ".join(
            f"{wanted[name]:g} {name} (free: {free[name]:g} of {whole[name]:g})"
            for name in wanted
            if wanted[name]
        )
        return (
            f"{why} for {PATIENCE:.0f} s: each of {self.slots} workers needs "
            f"{each}. It goes on when there is room: end other jobs (`ray "
            "status` lists them), add machines, or ask for fewer workers."
        )


@dataclasses.dataclass
class _Actor:
    """A process of Ray's: its first answer, where it prints, since when."""

    actor: Any
    begun: Any
    log: str | None = None
    since: float = dataclasses.field(default_factory=time.monotonic)
