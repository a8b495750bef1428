# SPDX-License-Identifier: Apache-2.0
"""Crew: several worker processes on one machine, watched by this one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from keras_kd.tuning.rows import RUNNING
from keras_kd.tuning.rows import Row
from keras_kd.tuning.study import Study
from keras_kd.tuning.worker import SearchError

POLL = 0.5
LIVES = 3
"""How often each worker may die before the search gives up."""


def run_crew(
    directory: pathlib.Path,
    study: Study,
    workers: int,
    running: Callable[[Row], None],
    ended: Callable[[Row], None],
) -> None:
    """Runs all trials of a search in several processes.

    A worker that dies is replaced; its trial is run again by whoever is free.
    They share the cores of the machine evenly.

    Args:
        directory: Folder of the search, with its job.
        study: Its state.
        workers: Number of processes.
        running: Is told of each trial that begins.
        ended: Is told of each trial that has ended.

    Raises:
        SearchError: If a worker ends with an error, or dies too often.
    """
    seen: dict[str, str] = {}

    def tell():
        for row in study.rows():
            if seen.get(row.name) == row.status:
                continue
            if row.name not in seen or row.status == RUNNING:
                running(row)
            if row.status != RUNNING:
                ended(row)
            seen[row.name] = row.status

    seen.update({row.name: row.status for row in study.rows()})
    crew = [_start(directory, workers) for _ in range(workers)]
    lives = LIVES * workers
    try:
        while crew:
            time.sleep(POLL)
            tell()
            for worker in list(crew):
                code = worker.poll()
                if code is None:
                    continue
                crew.remove(worker)
                if code == 0:
                    continue
                if code > 0:
                    raise SearchError(_last_words(worker))
                lives -= 1
                if not lives:
                    raise SearchError(
                        f"Workers were killed {LIVES * workers} times, the "
                        f"last one by signal {-code}. Is there memory enough "
                        f"for {workers} of them? Finished trials are kept: "
                        "call again, with fewer `workers`."
                    )
                crew.append(_start(directory, workers))
        tell()
    finally:
        for worker in crew:
            worker.terminate()
        for worker in crew:
            worker.wait()


def _start(directory, workers):
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        # What the user's functions import is found there, too.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    log = open(directory / "workers.log", "ab")  # noqa: SIM115
    with log:
        worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "keras_kd.tuning.worker",
                str(directory),
                "--parent",
                str(os.getpid()),
            ],
            env=environment,
            stdout=log,
            stderr=log,
        )
    worker.log = directory / "workers.log"
    return worker


def _last_words(worker):
    text = worker.log.read_text("utf-8", "replace").strip().splitlines()
    said = [line for line in text if line.startswith("keras-kd: ")]
    last = (
        said[-1].removeprefix("keras-kd: ") if said else "\n".join(text[-15:])
    )
    return f"A worker of the search stopped ({worker.log}): {last}"
