# SPDX-License-Identifier: Apache-2.0
"""retire_versions(): old versions go, never the one that must serve.

A server that restarts has only what is on the disk. So what counts as kept
is a version whose files are those of its manifest: a damaged one, however
new, is no reason to remove the sound one before it.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import warnings

from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.manifest import read_manifest
from keras_kd.export.publishing.staging import unused_name


def check_keep(keep: int | None) -> None:
    """Raises ValueError unless `keep` is None or a positive number."""
    if keep is not None and (type(keep) is not int or keep < 1):
        raise ValueError(
            "`keep` must be how many versions to keep, at least 1, or None "
            f"for all. Received: {keep!r}"
        )


def retire_versions(
    base_dir: str | os.PathLike,
    keep: int,
    spare: str | os.PathLike | None = None,
) -> list[pathlib.Path]:
    """Removes all versions older than the newest `keep` sound ones.

    Only folders that `publish` made are removed: a number as their name and
    a manifest in them. Everything else stays, whatever its name. A version
    vanishes by one rename, so no server sees half of it.

    With `keep=1` a server that was told of the new version and restarts
    before it has loaded it has nothing to fall back on; 2 is safer.

    Args:
        base_dir: The model's folder, the one that holds its versions.
        keep: How many sound versions to keep, at least 1.
        spare: A version that stays in any case.

    Returns:
        The folders that were removed.

    Raises:
        ValueError: If `keep` is not positive.

    Example:

    ```python
    retire_versions("saved_models/student", keep=2)
    ```
    """
    check_keep(keep)
    base_dir = pathlib.Path(base_dir)
    spare = None if spare is None else pathlib.Path(spare).name
    numbers = [
        n for n in os.listdir(base_dir) if re.fullmatch("[1-9][0-9]*", n)
    ]
    sound, removed = 0, []
    for name in sorted(numbers, key=int, reverse=True):
        folder = base_dir / name
        if sound < keep:
            sound += _is_sound(folder)
        elif name != spare and _was_published(folder) and _remove(folder):
            removed.append(folder)
    return removed


def _is_sound(folder):
    try:
        return _was_published(folder) and bool(check_manifest(folder))
    # Another publisher may be removing it at this moment.
    except (VerificationError, OSError):
        return False


def _was_published(folder):
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        return "saved_model.pb" in read_manifest(folder)["files"]
    except VerificationError:
        return False


def _remove(folder):
    away = unused_name(folder.parent)
    try:
        os.rename(folder, away)
    except FileNotFoundError:
        return False  # another publisher was faster
    except PermissionError as error:
        warnings.warn(
            f"{folder} is no longer needed but cannot be removed. "
            f"Received: {error}",
            stacklevel=4,
        )
        return False
    shutil.rmtree(away, ignore_errors=True)
    return True
