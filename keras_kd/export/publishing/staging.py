# SPDX-License-Identifier: Apache-2.0
"""Staging: folders that a model server ignores, beside those it serves.

They lie in the same folder as the versions, so that one rename turns one
into the other. TensorFlow Serving ignores a folder whose name is not a number.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil

from keras_kd.core.leases import STAGED
from keras_kd.core.leases import renewed
from keras_kd.core.leases import sweep
from keras_kd.core.leases import temporary_name
from keras_kd.core.records import sync_folder


@contextlib.contextmanager
def staging(base_dir: str | os.PathLike):
    """Yields a new folder in `base_dir` that a model server ignores.

    What a killed process left behind an hour ago is removed first; the folder
    itself is removed at the end, unless `publish` has renamed it.

    Args:
        base_dir: The model's folder, the one that holds its versions.
    """
    base_dir = pathlib.Path(base_dir)
    base_dir.mkdir(parents=True, exist_ok=True)
    sweep(base_dir)
    folder = unused_name(base_dir)
    # Not tempfile.mkdtemp: its mode 0700 would lock out a server's user.
    folder.mkdir()
    try:
        with renewed(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unused_name(base_dir: str | os.PathLike) -> pathlib.Path:
    """Returns a name that a server ignores and nobody else has."""
    return pathlib.Path(base_dir) / temporary_name(STAGED)


def flush(folder: str | os.PathLike) -> None:
    """Flushes all that a folder holds, so that it survives a power cut."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(root)
