# SPDX-License-Identifier: Apache-2.0
"""Leases: whose a temporary file is, and for how long.

Its name holds a token that nobody else has, and its time of change says when
it was last in use. What a killed process has left is known by that time
alone: process numbers and host names are the same in several containers.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import threading
import uuid
from collections.abc import Iterator

TEMPORARY = ".tmp-"
STAGED = ".keras_kd-tmp-"
LEASE = 3600.0
"""Seconds without a change after which nobody uses it any more."""
RENEWAL = 60.0

# Ours, with the numbers that earlier versions put before the token.
_OURS = re.compile(
    rf"({re.escape(TEMPORARY)}|{re.escape(STAGED)})"
    r"(\d+-(\w+-)?)?[0-9a-f]{32}(-.*)?",
    re.DOTALL,
)


def temporary_name(prefix: str = TEMPORARY, name: str = "") -> str:
    """Returns a new name that `sweep` knows as one of ours."""
    return f"{prefix}{uuid.uuid4().hex}" + (f"-{name}" if name else "")


@contextlib.contextmanager
def renewed(path: pathlib.Path) -> Iterator[None]:
    """Renews the lease of a temporary file or folder until the block ends."""
    ended = threading.Event()

    def renew():
        while not ended.wait(RENEWAL):
            # It may have got its final name.
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def sweep(folder: str | os.PathLike, lease: float = LEASE) -> None:
    """Removes temporary files and folders whose lease has run out.

    Only what has a name of ours, is no link, and lies in `folder` itself.

    Args:
        folder: Where to look; need not exist.
        lease: 0 where a lock says that nobody else can be writing.
    """
    found = [p for p in pathlib.Path(folder).glob(".*-*") if _is_ours(p)]
    if not found:
        return
    now = _now(folder)
    for path in found:
        with contextlib.suppress(OSError):  # gone, or not to be removed
            if now - path.lstat().st_mtime < lease:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_ours(path):
    return _OURS.fullmatch(path.name) is not None and not path.is_symlink()


def _now(folder):
    """Returns the time by the clock of the disk, which may be another's."""
    probe = pathlib.Path(folder) / temporary_name()
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return 0.0  # a full disk: nothing is known to be old
    finally:
        probe.unlink(missing_ok=True)
