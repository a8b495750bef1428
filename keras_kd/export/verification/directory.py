# SPDX-License-Identifier: Apache-2.0
"""verify_directory(): everything in a model's folder, checked anew."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.publishing.versions import versions_in
from keras_kd.export.serving.serving_files import FOLDER
from keras_kd.export.verification.golden import read_golden
from keras_kd.export.verification.verify import verify


def verify_directory(
    directory: str | os.PathLike,
) -> Iterator[tuple[pathlib.Path, str | None]]:
    """Checks every exported file of a model's folder, in fresh processes.

    Each file is compared with its manifest; each model then answers its
    golden requests, and must refuse or outlive hostile ones, see `verify`.

    Args:
        directory: The folder `export` wrote: versions and .tflite files; or
            a folder of such folders.

    Yields:
        Each version folder, each .tflite file, and the folder `serving`,
        with `None` if it is sound, or with what is wrong.

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
    for path in paths:
        try:
            _check(path)
        except VerificationError as error:
            yield path, str(error)
        except OSError as error:
            yield path, f"{path} could not be checked: {error}"
        else:
            yield path, None


def _exported(directory):
    """Returns what is to be checked in a model's folder; nothing elsewhere."""
    if not directory.is_dir():
        return []
    # A file that begins with a dot was never finished.
    files = sorted(directory.glob("[!.]*.tflite"))
    paths = [*versions_in(directory), *files]
    if paths and (directory / FOLDER).is_dir():
        paths.append(directory / FOLDER)
    return paths


def _check(path):
    check_manifest(path)
    if path.name == FOLDER:
        return
    golden = read_golden(path)
    verify(path, golden.inputs, golden.expected, golden.tolerance)
