# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine, by their number.

Needs nothing of this package, for processes that run a file by its path.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

POLL = 0.5
"""Seconds that an orphan may live."""


def is_running(pid: int) -> bool:
    """Tells whether this machine runs a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def end_with(parent: int, last: Callable[[], object] = bool) -> None:
    """Lets this process end soon after its parent, however that one ended.

    Args:
        parent: The number of the process that has started this one.
        last: What to do before.
    """

    def watch():
        while os.getppid() == parent:
            time.sleep(POLL)
        last()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
