# SPDX-License-Identifier: Apache-2.0
"""Memory: the most that loading and running an artefact adds to a process."""

from __future__ import annotations

import multiprocessing
import pathlib
import re
from collections.abc import Callable
from typing import Any

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")


def peak_growth(work: Callable[[], Any], seconds: float = 120) -> int | None:
    """Runs `work` in a copy of this process; returns how far memory rose.

    That is the peak of the resident set (RSS) while `work` runs, minus the
    resident set before it. Each call starts from the same state: TensorFlow
    keeps the memory it once had, so in one process the second model would
    seem to need next to none. The caller must not have run TensorFlow yet.

    Args:
        work: Called once, without arguments.
        seconds: Time after which it is given up.

    Returns:
        Bytes; `None` if `work` failed or took too long, or where the system
        does not tell: a peak can be reset on Linux only.
    """
    if not _CLEAR.exists():
        return None
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(work, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(seconds) else None
    except EOFError:  # it died, or `work` raised
        return None
    finally:
        process.kill()
        process.join()


def _measure(work, sender):
    try:
        _CLEAR.write_text("5")  # sets the peak to what is resident now
    except OSError:
        sender.send(None)
        return
    before = _peak()
    work()
    sender.send(_peak() - before)


def _peak() -> int:
    status = _STATUS.read_text("ascii")
    return 1024 * int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.M)[0])
