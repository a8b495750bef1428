# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine, by their number."""

from __future__ import annotations

import os


def is_running(pid: int) -> bool:
    """Tells whether this machine runs a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is another user's
    return True
