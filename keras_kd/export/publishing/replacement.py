# SPDX-License-Identifier: Apache-2.0
"""Replacing files that belong together, each by one rename.

A version of a SavedModel is a new folder; a .tflite file and the serving
files keep their names, so older ones stand where the new ones go. Wherever a
process is killed, every file is the old one or the new one, whole, and the
manifest knows both.
"""

from __future__ import annotations

import contextlib
import os
import pathlib

from keras_kd.core.file_lock import file_lock
from keras_kd.core.records import file_sha256
from keras_kd.core.records import sync_folder
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.manifest import golden_path
from keras_kd.export.manifest import manifest_path
from keras_kd.export.manifest import write_content
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.staging import flush
from keras_kd.export.verification.golden import carry_over
from keras_kd.export.verification.golden import read_golden


def publish_file(
    staged_file: str | os.PathLike, target: str | os.PathLike
) -> pathlib.Path:
    """Replaces `target` by a finished .tflite file.

    Its golden answers, if it has some, go with it, and a manifest.

    Args:
        staged_file: A .tflite file, on the disk that `target` is on.
        target: Its final path; the folder exists.
    """
    staged_file, target = pathlib.Path(staged_file), pathlib.Path(target)
    with file_lock(target.parent):
        staged = {target.name: staged_file}
        golden = golden_path(staged_file)
        if golden.exists():
            older = _sound_golden(target)
            if older is not None:
                carry_over(older, staged_file)
            # First: until the last rename the old file answers by it, too.
            staged = {golden_path(target).name: golden, **staged}
        _replace(staged_file, target, staged)
    return target


def publish_folder(
    staged_dir: str | os.PathLike, target: str | os.PathLike
) -> pathlib.Path:
    """Replaces the files of a folder, and writes their manifest.

    Args:
        staged_dir: Folder of files, on the disk that `target` is on.
        target: Its final path; made if there is none.
    """
    staged_dir, target = pathlib.Path(staged_dir), pathlib.Path(target)
    with file_lock(target.parent):
        if target.exists():
            names = sorted(os.listdir(staged_dir))
            _replace(staged_dir, target, {n: staged_dir / n for n in names})
        else:
            write_manifest(staged_dir)
            flush(staged_dir)
            os.rename(staged_dir, target)
            sync_folder(target.parent)
    return target


def _sound_golden(target):
    try:
        check_manifest(target)
        return read_golden(target)
    except VerificationError:
        return None


def _replace(staged_about, about, staged):
    """Renames staged files, by their final names, after a manifest of all."""
    hashes = {name: file_sha256(path) for name, path in staged.items()}
    older = {}
    # An old file that is damaged is not vouched for.
    with contextlib.suppress(VerificationError):
        older = check_manifest(about)
    write_content(staged_about, hashes, older)
    folder = manifest_path(about).parent
    for path in staged.values():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    os.replace(manifest_path(staged_about), manifest_path(about))
    sync_folder(folder)
    for name, path in staged.items():
        os.replace(path, folder / name)
        sync_folder(folder)
