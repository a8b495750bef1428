# SPDX-License-Identifier: Apache-2.0
"""failure_of(): Python in a new process, which may die of what it does."""

from __future__ import annotations

import os
import subprocess
import sys


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
        return f"did not end within {timeout:.0f} seconds"
    code = process.returncode
    if code == 0:
        return None
    how = f"was aborted by signal {-code}" if code < 0 else "failed"
    doing = (process.stdout.splitlines() or ["starting"])[-1]
    return f"{how} while {doing}. Received: {process.stderr.strip()[-2000:]}"
