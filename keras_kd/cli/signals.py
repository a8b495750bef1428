# SPDX-License-Identifier: Apache-2.0
"""SIGTERM ends a command as Ctrl-C does: what is open is closed first."""

from __future__ import annotations

import contextlib
import signal
import threading

CODE = 128 + signal.SIGTERM
"""What a shell calls a process that SIGTERM has ended: 143."""


class Terminated(KeyboardInterrupt):
    """Somebody sent SIGTERM."""


@contextlib.contextmanager
def terminable():
    """Raises `Terminated` in the block when SIGTERM comes; further ones wait.

    Without it the process would end at once, and leave its children and
    temporary files behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main one may say what a signal does
        return

    def end(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
