# SPDX-License-Identifier: Apache-2.0
"""failure_of(): Python in a new process, which may die of what it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

_CRASHES = (
    *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL),
    *(signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS),
)
"""Signals that a process brings on itself; all others come from outside."""


def failure_of(
    arguments: list[str],
    timeout: float | None = None,
    environment: dict[str, str] | None = None,
) -> str | None:
    """Runs Python in a new process and waits for it.

    Args:
        arguments: What follows `python` on the command line.
        timeout: Seconds that the process may take; `None` for any.
        environment: Variables to set for it.

    Returns:
        `None` if it succeeded, else what became of it, as the end of a
        sentence. The last line that it printed tells what it was doing.

    Raises:
        TimeoutError: If it took too long.
        ChildProcessError: If it was killed.
        OSError: If it met a passing fault, see `telling_the_parent`.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    try:
        process = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, **quiet, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"A process did not end within {timeout:.0f} seconds, which says "
            "nothing about the model: this machine may be busy. Try again. "
            f"It ran {_named(arguments)}"
        ) from None
    code = process.returncode
    if code == 0:
        return None
    how = f"was aborted by signal {-code}" if code < 0 else "failed"
    doing = (process.stdout.splitlines() or ["starting"])[-1]
    what = f"{how} while {doing}. Received: {process.stderr.strip()[-2000:]}"
    if code == os.EX_TEMPFAIL:
        raise OSError(
            f"A process {what} This says nothing about the model: fix the "
            f"cause and try again. It ran {_named(arguments)}"
        )
    if code < 0 and -code not in _CRASHES:
        raise ChildProcessError(
            f"A process was killed (signal {-code}) while {doing}: perhaps "
            "memory ran out. This says nothing about the model. Try again. "
            f"It ran {_named(arguments)}"
        )
    return what


def _named(arguments):
    """Returns the first arguments, without a script's text."""
    parts = ["..." if "\n" in part else part for part in arguments[:3]]
    return f"python {' '.join(parts)}"
