# SPDX-License-Identifier: Apache-2.0
"""Meter: what a search takes, and where; for `search.py`."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable
from unittest import mock

import keras

import keras_kd as kd


class Meter:
    """Measures a block: its seconds, its fits, its traces and its disk.

    Args:
        folder: What is written while the block runs.
    """

    def __init__(self, folder: str):
        self.folder = pathlib.Path(folder)
        self.fits: list[float] = []
        self.traces: list[int] = []
        self.labelling = 0.0
        self.peak = 0
        self._traced = 0
        self._ended = threading.Event()

    def __enter__(self):
        self._patches = contextlib.ExitStack()
        fit, build = keras.Model.fit, kd.TeacherCache.build
        make = keras.Model._make_function

        @functools.wraps(fit)  # some look at its arguments
        def timed_fit(model, *args, **kwargs):
            began, traced = time.perf_counter(), self._traced
            try:
                return fit(model, *args, **kwargs)
            finally:
                self.fits.append(time.perf_counter() - began)
                self.traces.append(self._traced - traced)

        def timed_build(*args, **kwargs):
            began = time.perf_counter()
            try:
                return build(*args, **kwargs)
            finally:
                self.labelling += time.perf_counter() - began

        def counted_make(model, step):
            def counted(data):  # Python comes here once per trace
                self._traced += 1
                return step(data)

            return make(model, counted)

        for thing, name, timed in (
            (keras.Model, "fit", timed_fit),
            (keras.Model, "_make_function", counted_make),
            (kd.TeacherCache, "build", timed_build),
        ):
            patch = mock.patch.object(thing, name, timed)
            self._patches.enter_context(patch)
        self._watch = threading.Thread(target=self._watch_disk)
        self._watch.start()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._began
        self._ended.set()
        self._watch.join()
        self._patches.close()

    def _watch_disk(self):
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, disk_usage(self.folder))
        self.peak = max(self.peak, disk_usage(self.folder))


def disk_usage(folder: pathlib.Path) -> int:
    """Returns the bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            status = path.lstat()
            total += 0 if path.is_dir() else status.st_size
    return total


def measured(search: Callable[[str], object], scale: float = 1.0) -> dict:
    """Runs a search in a new folder; returns what it took.

    Args:
        search: Takes the folder.
        scale: What seconds and bytes are multiplied with.
    """
    with tempfile.TemporaryDirectory() as folder:
        with Meter(folder) as meter:
            result = search(folder)
        rows = getattr(result, "rows", [])
        return {
            "seconds": scale * meter.seconds,
            "bytes": scale * meter.peak,
            "fits": scale * sum(meter.fits),
            "labelling": meter.labelling,
            "traces": meter.traces,
            "epochs": [row.epochs for row in rows],
            "statuses": [row.status for row in rows],
        }
