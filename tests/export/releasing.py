# SPDX-License-Identifier: Apache-2.0
"""Releases of files that are there already, and what is seen of them."""

from __future__ import annotations

import os
import pathlib
import shutil

from keras_kd.core.file_lock import LOCK
from keras_kd.core.records import file_sha256
from keras_kd.export.manifest import check_manifest
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.release import release
from keras_kd.export.publishing.staging import staging
from keras_kd.export.verification.golden import read_golden
from keras_kd.export.verification.golden import write_golden


def contents(folder):
    """Returns the sha256 of every file a server or a user sees."""
    folder = pathlib.Path(folder)
    if folder.is_file():
        return {folder.name: file_sha256(folder)}
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.relative_to(folder).parts[0].startswith(".")
    }


def leftovers(folder):
    """Returns what a publisher left behind that it should have removed."""
    names = set(os.listdir(folder)) - {LOCK}
    return [name for name in names if name.startswith(".")]


def publish_second(base, second, mark=b""):
    """Stages copies of another export's files, and releases them.

    `mark` is added to each .tflite file, so that it is another one.
    """
    with staging(base) as folder, staging(base) as lite:
        for path in (second / "1").iterdir():
            # Not all at once: the folder would get an old time.
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, folder / path.name)
        staged = {"saved_model": folder}
        for path in second.glob("*.tflite"):
            for part in second.glob(f"{path.name}*"):
                shutil.copy(part, lite)
            staged[path.name] = lite / path.name
            if mark:
                _mark(lite / path.name, mark)
            write_manifest(lite / path.name)
        texts = {
            path.name: path.read_text() + "# second\n"
            for path in (second / "serving").iterdir()
            if path.name != "manifest.json"
        }
        release(staged, base, None, texts, say=lambda text: None)


def _mark(path, mark):
    golden = read_golden(path)
    path.write_bytes(path.read_bytes() + mark)
    found = golden.inputs, golden.expected, golden.tolerance
    write_golden(path, *found, file_sha256(path))


def check_all(base):
    """Raises unless all that has a final name is whole."""
    for path in base.iterdir():
        if path.name.isdigit() or path.name == "serving":
            check_manifest(path)
        elif path.suffix == ".tflite":
            check_manifest(path)
            read_golden(path)
