# SPDX-License-Identifier: Apache-2.0
"""Versions: each appears complete or not at all, and old ones go.

TensorFlow Serving polls a folder and serves the highest number in it. So a
model is written under a name the poller ignores, flushed to the disk, and
takes its number by one rename. A server that restarts has only what is on
the disk, so what counts as kept is a version whose files are those of its
manifest: a damaged one, however new, is no reason to remove a sound one.
"""

from __future__ import annotations

import errno
import os
import pathlib
import re
import shutil
import warnings

from keras_kd.core.folders import check_folder
from keras_kd.core.leases import STAGED
from keras_kd.core.records import sync_folder
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.manifest import manifest_path
from keras_kd.export.manifest import read_manifest
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.staging import flush
from keras_kd.export.publishing.staging import staging
from keras_kd.export.publishing.staging import unused_name

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)

# Begins the name of a damaged version that was moved aside; no number.
ASIDE = "damaged-"


def check_name(name: str) -> str:
    """Returns `name`; ValueError if it may not be a folder's name."""
    # fullmatch: `$` would let a final newline through.
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError(
            "`name` becomes a folder's name and must be made of letters, "
            f"digits, '_' and '-' only. Received: {name!r}"
        )
    return name


def folder_of(directory: str | os.PathLike, name: str) -> pathlib.Path:
    """Returns the folder of a model, after a look at it.

    Raises:
        ValueError: If it is but a link, or TensorFlow could not read it.
        OSError: If it cannot be written to.
    """
    folder = pathlib.Path(directory) / name
    if folder.is_symlink():
        raise ValueError(
            f"{folder} is a link to another place. Expected a folder that "
            "the export may write to. Choose another `name`."
        )
    check_folder(folder, of_models=True)
    return folder


def check_keep(keep: int | None) -> None:
    """Raises ValueError unless `keep` is None or a positive number."""
    if keep is not None and (type(keep) is not int or keep < 1):
        raise ValueError(
            "`keep` must be how many versions to keep, at least 1, or None "
            f"for all. Received: {keep!r}"
        )


def publish(
    staged_dir: str | os.PathLike,
    base_dir: str | os.PathLike,
    keep: int | None = None,
) -> pathlib.Path:
    """Gives a finished SavedModel the next version number.

    Of two publishers exactly one gets each number; the other takes the next.
    An existing number is never written to. Where the newest version is sound
    and its manifest has the same `identity`, that one stays the newest.

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
    is_staged = staged_dir.name.startswith(STAGED)
    if not is_staged or staged_dir.resolve().parent != base_dir.resolve():
        with staging(base_dir) as folder:
            for path in staged_dir.iterdir():
                # Not all at once: the folder would get the time of the
                # other, by which its lease may have run out.
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, folder / path.name)
            return publish(folder, base_dir, keep)
    if not manifest_path(staged_dir).exists():
        write_manifest(staged_dir)
    flush(staged_dir)
    if (same := _made_before(staged_dir, base_dir)) is not None:
        return same
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


def _made_before(staged_dir, base_dir):
    """Returns the newest version if it was made from the same, else `None`.

    As after a kill between its publication and the record of it.
    """
    identity = read_manifest(staged_dir).get("identity")
    for newest in versions_in(base_dir)[-1:]:
        if identity and _is_version(newest, check_manifest):
            same = read_manifest(newest).get("identity") == identity
            return newest if same else None
    return None


def next_version(base_dir: str | os.PathLike) -> int:
    """Returns one more than the highest number in `base_dir`, at least 1.

    The number of a version that was moved aside counts as well: no server
    that failed on it should meet another model by it.

    Raises:
        ValueError: If the highest number is the highest there can be.
    """
    # What the poller takes for a number: "0008" and "+7" count, "-3" too.
    number = re.compile(rf"\s*[+-]?[0-9]+\s*|{ASIDE}([0-9]+)(-[0-9]+)?")
    found = filter(None, map(number.fullmatch, os.listdir(base_dir)))
    # Beyond 64 bits the poller ignores a name.
    numbers = [n for n in (int(m[1] or m[0]) for m in found) if n < 2**63]
    highest = max(0, *numbers, 0)
    if highest == 2**63 - 1:
        raise ValueError(
            f"{base_dir} holds version {highest}, the highest number that a "
            "server knows: none can come after it. Rename that folder to a "
            "lower number, or publish under another `name`."
        )
    return highest + 1


def versions_in(base_dir: str | os.PathLike) -> list[pathlib.Path]:
    """Returns what an export may have numbered, the oldest first."""
    names = os.listdir(base_dir)
    numbers = [name for name in names if re.fullmatch("[1-9][0-9]*", name)]
    return [pathlib.Path(base_dir, name) for name in sorted(numbers, key=int)]


def retire_versions(
    base_dir: str | os.PathLike,
    keep: int,
    spare: str | os.PathLike | None = None,
) -> list[pathlib.Path]:
    """Removes all versions older than the newest `keep` sound ones.

    Only folders that `publish` made are removed: a number as their name and
    a manifest in them. Everything else stays, whatever its name. A version
    vanishes by one rename, so no server sees half of it.

    What is kept is there to go back to by hand. It does not help a server
    that restarts: that one takes the highest number, sound or not.

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
    spared = None if spare is None else pathlib.Path(spare).name
    sound, removed = 0, []
    for folder in reversed(versions_in(base_dir)):
        if sound < keep:
            sound += _is_version(folder, check_manifest)
        elif folder.name != spared and _is_version(folder, _listed_files):
            if _remove(folder):
                removed.append(folder)
    return removed


def _is_version(folder, files_of):
    """Whether `publish` made a folder, by the files of its manifest."""
    try:
        made = folder.is_dir() and not folder.is_symlink()
        return made and "saved_model.pb" in files_of(folder)
    # Another publisher may be removing it at this moment.
    except (VerificationError, OSError):
        return False


def _listed_files(folder):
    return read_manifest(folder)["files"]


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
