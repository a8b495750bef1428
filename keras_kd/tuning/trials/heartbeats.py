# SPDX-License-Identifier: Apache-2.0
"""Heartbeats: which process still works on its trial."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import time
from typing import Any

from keras_kd.core.processes import is_running

EVERY = 5.0
SILENCE = 120.0
"""Seconds without a heartbeat after which a process counts as dead. Compiling
a large model may hold up a thread for long."""


class Heartbeats:
    """A file for each attempt, touched every few seconds.

    A process of this machine that is gone is noticed at once; one of another
    machine, or one that hangs, after two minutes.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory

    def me(self) -> dict[str, Any]:
        """Returns what names this process."""
        return {"host": socket.gethostname(), "pid": os.getpid()}

    def beat(self, token: str) -> None:
        """Touches the file of an attempt."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / token).touch()

    def forget(self, token: str) -> None:
        """Removes the file of an attempt that has ended."""
        (self.directory / token).unlink(missing_ok=True)

    def is_alive(self, held: dict[str, Any]) -> bool:
        """Tells whether a `host` and `pid` still work on their `token`."""
        if held["host"] == socket.gethostname() and not is_running(held["pid"]):
            return False
        try:
            last = (self.directory / held["token"]).stat().st_mtime
        except FileNotFoundError:
            return False
        return self._now() - last < SILENCE

    @contextlib.contextmanager
    def beating(self, token: str, parent: int | None = None):
        """Sends heartbeats while the block runs, and the parent process."""
        ended = threading.Event()

        def run():
            while not ended.wait(EVERY):
                if parent is not None and os.getppid() != parent:
                    os._exit(1)
                with contextlib.suppress(OSError):
                    self.beat(token)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _now(self):
        """The time by the clock of the disk, which all machines share."""
        clock = self.directory / f".clock-{os.getpid()}"
        try:
            clock.touch()
            return clock.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                clock.unlink(missing_ok=True)
