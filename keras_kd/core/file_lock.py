# SPDX-License-Identifier: Apache-2.0
"""file_lock: a folder in the hands of one process at a time."""

from __future__ import annotations

import contextlib
import os
import pathlib

LOCK = ".lock"


@contextlib.contextmanager
def file_lock(directory: str | os.PathLike, busy: str | None = None):
    """Holds a folder for this process; a killed process lets go of it.

    What is locked is a file in it, since a lock on the folder itself keeps
    out processes of one machine only where several share the disk (NFS). The
    file is empty and stays: whoever removed it could part a process that
    waits for it from those that come later.

    Args:
        directory: The folder; made if there is none.
        busy: What to say, and do, where another process holds it. `None`:
            wait for that process.

    Raises:
        ValueError: `busy`, if another process holds the folder.
    """
    import fcntl  # where there is no fcntl, all that only reads still works

    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOCK, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise ValueError(busy) from None
        yield
