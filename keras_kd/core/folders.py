# SPDX-License-Identifier: Apache-2.0
"""Folders that are written to: looked at first, and told of when full."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
import tempfile
from collections.abc import Callable
from collections.abc import Iterator

from keras_kd.core.leases import STAGED
from keras_kd.core.leases import TEMPORARY
from keras_kd.core.passing_faults import is_full_disk

PATTERN = "[]*?\\"
"""What TensorFlow takes for a pattern in the path of a model's weights."""


class FullDiskError(OSError):
    """A disk is full; its path is named, and errno is ENOSPC."""

    def __str__(self):
        return self.strerror  # without the number


def full_disk(folder: str | os.PathLike, reason: object) -> FullDiskError:
    """Returns the error of a full disk that holds `folder`."""
    folder = pathlib.Path(folder)
    while any(part.startswith((STAGED, TEMPORARY)) for part in folder.parts):
        folder = folder.parent  # what the user knows
    full = "full"
    if os.strerror(errno.EFBIG) in str(reason):
        full = "full for a file of this size"
    return FullDiskError(
        errno.ENOSPC,
        f"The disk of {folder} is {full}. What was finished before is intact; "
        "what was being written is missing or incomplete. Make room and do "
        f"the same again. Received: {reason}",
    )


def check_folder(
    directory: str | os.PathLike, of_models: bool = False
) -> pathlib.Path:
    """Returns the absolute path of a folder that can be written to.

    For what would fail after hours; nothing is written or made.

    Args:
        directory: The folder; it need not be there yet.
        of_models: Whether TensorFlow is to read SavedModels from it.

    Raises:
        ValueError: If TensorFlow would take the path for a pattern.
        OSError: If a file or a broken link stands in the way, permission is
            missing, the disk is full, or files in it are of somebody else
            and anybody may put more there.
    """
    path = pathlib.Path(directory).absolute()
    found = sorted(set(PATTERN) & set(str(path)))
    if of_models and found:
        raise ValueError(
            f"TensorFlow cannot read models from {path}: it takes "
            f"{' '.join(found)} in a path for a pattern. Expected a folder "
            f"whose path has none of {' '.join(PATTERN)}. Choose another."
        )
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        what = "a link that leads nowhere" if there.is_symlink() else "a file"
        raise NotADirectoryError(
            f"{there} is {what}. Expected a folder, or nothing, to write "
            f"{path} into. Choose another directory."
        )
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=effective):
        raise PermissionError(
            f"There is no permission to write into {there}. Expected a folder "
            f"that can be written to, for {path}. Choose another directory, "
            "or change its permissions."
        )
    disk = os.statvfs(there)
    if not disk.f_bavail or (disk.f_files and not disk.f_favail):
        raise full_disk(there, "nothing is free")
    if path.is_dir():
        _check_owners(path)
    return path


def _check_owners(folder):
    """Raises where anybody may have put what this process would believe."""
    if not folder.stat().st_mode & stat.S_IWOTH:
        return
    trusted = {0, os.geteuid()}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            if os.lstat(path).st_uid not in trusted:
                raise PermissionError(
                    f"{path} is another user's, in a folder that anybody may "
                    "write to: what it holds cannot be trusted. Expected "
                    f"files of this user. Choose another directory than "
                    f"{folder}, or chmod o-w it and remove what is not yours."
                )


@contextlib.contextmanager
def telling_of_a_full_disk(folder: str | os.PathLike) -> Iterator[None]:
    """Raises a `FullDiskError`, whoever found the disk of a folder full."""
    try:
        yield
    except FullDiskError:
        raise
    except Exception as error:
        if not is_full_disk(error):
            raise
        raise full_disk(folder, error) from error


@contextlib.contextmanager
def work_folder() -> Iterator[pathlib.Path]:
    """Yields a folder for this user alone, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="keras_kd-") as folder:
        with telling_of_a_full_disk(folder):
            yield pathlib.Path(folder)


def file_content(save: Callable[[pathlib.Path], object], suffix: str) -> bytes:
    """Returns what `save` writes into a file whose name ends so."""
    with work_folder() as folder:
        path = folder / f"saved{suffix}"
        save(path)
        return path.read_bytes()
