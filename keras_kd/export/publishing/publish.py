# SPDX-License-Identifier: Apache-2.0
"""Publishing: a version appears complete or not at all.

TensorFlow Serving polls a folder and serves the highest number in it. So a
model is written under a name the poller ignores, flushed to the disk, and
takes its number by one rename.
"""

from __future__ import annotations

import errno
import os
import pathlib
import re
import shutil

from keras_kd.core.records import sync_folder
from keras_kd.export.manifest import manifest_path
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.retire import check_keep
from keras_kd.export.publishing.retire import retire_versions
from keras_kd.export.publishing.staging import PREFIX
from keras_kd.export.publishing.staging import flush
from keras_kd.export.publishing.staging import staging

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


def check_name(name: str) -> str:
    """Returns `name` if it may be a folder's name.

    Raises:
        ValueError: If it is not made of letters, digits, `_` and `-`.
    """
    # fullmatch: `$` would let a final newline through.
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError(
            "`name` becomes a folder's name and must be made of letters, "
            f"digits, '_' and '-' only. Received: {name!r}"
        )
    return name


def publish(
    staged_dir: str | os.PathLike,
    base_dir: str | os.PathLike,
    keep: int | None = None,
) -> pathlib.Path:
    """Gives a finished SavedModel the next version number.

    Of two publishers exactly one gets each number; the other takes the next.
    An existing number is never written to.

    Args:
        staged_dir: The SavedModel's folder. One made by
            `staging(base_dir)` is renamed; any other is copied.
        base_dir: The model's folder, the one that holds its versions.
        keep: How many sound versions to keep, this one included; older ones
            are removed as `retire_versions` says. `None` keeps all.

    Returns:
        The version's folder, `base_dir/<number>`.

    Raises:
        ValueError: If `staged_dir` holds no SavedModel, or `keep` is not
            positive.
    """
    check_keep(keep)
    staged_dir, base_dir = pathlib.Path(staged_dir), pathlib.Path(base_dir)
    if not (staged_dir / "saved_model.pb").is_file():
        raise ValueError(
            f"`staged_dir` must hold a SavedModel. Received {staged_dir}, "
            "which has no saved_model.pb."
        )
    is_staged = staged_dir.name.startswith(PREFIX)
    if not is_staged or staged_dir.resolve().parent != base_dir.resolve():
        with staging(base_dir) as folder:
            shutil.copytree(staged_dir, folder, dirs_exist_ok=True)
            return publish(folder, base_dir, keep)
    if not manifest_path(staged_dir).exists():
        write_manifest(staged_dir)
    flush(staged_dir)
    while True:
        target = base_dir / str(next_version(base_dir))
        try:
            # Fails on a folder with content: that number is taken.
            os.rename(staged_dir, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            continue
        sync_folder(base_dir)
        if keep is not None:
            retire_versions(base_dir, keep, spare=target)
        return target


def next_version(base_dir: str | os.PathLike) -> int:
    """Returns one more than the highest number in `base_dir`, at least 1."""
    # What the poller takes for a number: "0008" and "+7" count, "-3" too.
    number = re.compile(r"\s*[+-]?[0-9]+\s*")
    names = filter(number.fullmatch, os.listdir(base_dir))
    # Beyond 64 bits the poller ignores a name.
    numbers = [n for n in map(int, names) if n < 2**63 - 1]
    return max([0, *numbers]) + 1
