# SPDX-License-Identifier: Apache-2.0
"""verify_directory(): everything in a model's folder, checked anew."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator

from keras_kd.core.file_formats import SUFFIX
from keras_kd.core.passing_faults import PASSING
from keras_kd.core.records import sync_folder
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.publishing.versions import ASIDE
from keras_kd.export.publishing.versions import versions_in
from keras_kd.export.serving.serving_files import FOLDER
from keras_kd.export.verification.file_ops import UntrustedError
from keras_kd.export.verification.file_ops import check_trust
from keras_kd.export.verification.golden import read_golden
from keras_kd.export.verification.verify import verify

CONTROL = "control"
"""Folder for the files of a run's control, beside those of its student."""


def verify_directory(
    directory: str | os.PathLike, trust: bool = False
) -> Iterator[tuple[pathlib.Path, str | None]]:
    """Checks every exported file of a model's folder, in fresh processes.

    Each file is compared with its manifest; each model then answers its
    golden requests, and must refuse or outlive hostile ones, see `verify`.

    Args:
        directory: The folder `export` wrote: versions and .tflite files; or
            a folder of such folders.
        trust: Whether to run SavedModels that read or write files, or the
            like, see `check_trust`.

    Returns:
        An iterator over each version folder, each .tflite file, and the
        folder `serving`, with `None` if it is sound, or with what is wrong.

    Raises:
        FileNotFoundError: If there is nothing to check.
    """
    directory = pathlib.Path(directory)
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    paths = _exported(directory)
    if not paths:
        below = [directory / name for name in names if name[0] != "."]
        paths = [path for folder in below for path in _exported(folder)]
    if not paths:
        raise FileNotFoundError(
            f"{directory} holds no exported model: expected numbered version "
            "folders or .tflite files, there or one folder below. Received: "
            f"{names[:5] if names else 'no such folder, or an empty one'}"
        )
    return ((path, _problem(path, trust)) for path in paths)


def _exported(directory):
    """Returns what is to be checked in a model's folder; nothing elsewhere."""
    if not directory.is_dir():
        return []
    # A file that begins with a dot was never finished.
    files = {*directory.glob(f"[!.]*{SUFFIX}")}
    for end in (f"{SUFFIX}.manifest.json", f"{SUFFIX}.golden.npz"):
        # What is left of a file that is gone.
        files |= {
            f.with_name(f.name.removesuffix(end) + SUFFIX)
            for f in directory.glob(f"[!.]*{end}")
        }
    paths = [*versions_in(directory), *sorted(files)]
    if paths and (directory / FOLDER).is_dir():
        paths.append(directory / FOLDER)
    # What a report says to ship where the control was the better one.
    return [*paths, *_exported(directory / CONTROL)] if paths else []


def repair_directory(
    directory: str | os.PathLike, trust: bool = False
) -> list[tuple[pathlib.Path, str | None]]:
    """Checks models' folders and moves damaged newest versions aside.

    A server that starts takes the highest number, and serves nothing if that
    one is damaged. So it is renamed, never deleted, to `damaged-<number>`,
    which no server takes for a version; unless no older version is sound, or
    this one could only not be checked (a full disk, a busy machine).

    Args:
        directory: See `verify_directory`.
        trust: See `verify_directory`.

    Returns:
        What `verify_directory` yields; the texts say what was moved.

    Example:

    ```python
    from keras_kd.export.verification.directory import repair_directory

    repair_directory("saved_models/student")
    ```
    """
    found = dict(verify_directory(directory, trust))
    for folder in dict.fromkeys(path.parent for path in found):
        versions = [v for v in versions_in(folder) if v in found]
        while versions and _is_damaged(found[versions[-1]]):
            damaged = versions.pop()
            sound = [v.name for v in versions if found[v] is None]
            if sound:
                aside = _unused(damaged.with_name(f"{ASIDE}{damaged.name}"))
                os.rename(damaged, aside)
                sync_folder(folder)
                found[damaged] += (
                    f" Moved aside to {aside}: a server that starts takes "
                    f"version {sound[-1]} now."
                )
    return list(found.items())


def _is_damaged(problem):
    return problem is not None and not isinstance(problem, Unchecked)


def _unused(path):
    names = (path.with_name(f"{path.name}-{i}") for i in itertools.count(2))
    return next(p for p in itertools.chain([path], names) if not p.exists())


def _check(path, trust=False):
    check_manifest(path)
    if path.name == FOLDER:
        return
    if path.is_dir() and not trust:
        check_trust(path)
    golden = read_golden(path)
    verify(path, golden.inputs, golden.expected, golden.tolerance)


class Unchecked(str):
    """What kept a file from being checked; it may be sound."""


def _problem(path, trust):
    try:
        _check(path, trust)
    except VerificationError as error:
        return str(error)
    except UntrustedError as error:
        return Unchecked(error)
    except PASSING as error:
        return Unchecked(f"{path} could not be checked: {error}")
    return None
