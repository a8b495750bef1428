# SPDX-License-Identifier: Apache-2.0
"""Staging: folders that a model server ignores, beside those it serves.

They lie in the same folder as the versions, so that one rename turns one
into the other. TensorFlow Serving ignores a folder whose name is not a number.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil
import socket
import uuid

from keras_kd.core.passing_faults import is_full_disk
from keras_kd.core.processes import is_running
from keras_kd.core.records import sync_folder

PREFIX = ".keras_kd-tmp-"


@contextlib.contextmanager
def staging(base_dir: str | os.PathLike):
    """Yields a new folder in `base_dir` that a model server ignores.

    What a killed process left behind is removed first; the folder itself is
    removed at the end, unless `publish` has renamed it.

    Args:
        base_dir: The model's folder, the one that holds its versions.
    """
    base_dir = pathlib.Path(base_dir)
    base_dir.mkdir(parents=True, exist_ok=True)
    for leftover in base_dir.glob(f"{PREFIX}*"):
        if _is_stale(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    folder = unused_name(base_dir)
    # Not tempfile.mkdtemp: its mode 0700 would lock out a server's user.
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def telling_of_a_full_disk(base_dir: str | os.PathLike):
    """Raises OSError ENOSPC that names the disk, whoever found it full."""
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise OSError(
            errno.ENOSPC,
            f"The disk of {base_dir} is full. What was published before is "
            "intact; this export is missing or incomplete. Make room and "
            f"export again. Received: {error}",
        ) from error


def unused_name(base_dir: str | os.PathLike) -> pathlib.Path:
    """Returns a name that a server ignores and that tells whose it is."""
    mark = f"{os.getpid()}-{_host_mark()}-{uuid.uuid4().hex}"
    return pathlib.Path(base_dir) / f"{PREFIX}{mark}"


def flush(folder: str | os.PathLike) -> None:
    """Flushes all that a folder holds, so that it survives a power cut."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(root)


def _host_mark():
    # On a shared disk a process number says nothing about another machine.
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_stale(name):
    match = re.fullmatch(rf"{re.escape(PREFIX)}(\d+)(?:-(\w+))?-\w+", name)
    if not match or match[2] not in (None, _host_mark()):
        return False
    return not is_running(int(match[1]))
