# SPDX-License-Identifier: Apache-2.0
"""Manifests: the sha256 of every exported file.

saved_model.pb and .tflite files carry no checksum of their own: one flipped
bit in them loads and silently answers other numbers. A manifest has one.
"""

from __future__ import annotations

import os
import pathlib
import time

from keras_kd.core.checksummed_json import read_checksummed
from keras_kd.core.checksummed_json import write_checksummed
from keras_kd.core.file_formats import TFLITE
from keras_kd.core.file_formats import format_of
from keras_kd.core.records import file_sha256

NAME = "manifest.json"

DAMAGED = (FileNotFoundError, NotADirectoryError, ValueError, TypeError)
"""Raised by what is damaged; another `OSError` is one of reading it."""


class VerificationError(ValueError):
    """An exported file is not what it should be."""


def manifest_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns where an export's manifest is, see `_beside`."""
    return _beside(path, NAME)


def golden_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns where an export's golden answers are, see `_beside`."""
    return _beside(path, "golden.npz")


def _beside(path, name):
    """Returns `folder/name`, or `student.tflite.name` beside the file."""
    path = pathlib.Path(path)
    if format_of(path) == TFLITE:
        return path.with_name(f"{path.name}.{name}")
    return path / name


def model_files(path: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the files of an export, or of any folder, that are the model.

    Left out is what proves and warms it up: the manifest, golden answers, and
    what lies in a SavedModel's `assets.extra`.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    beside = {manifest_path(path), golden_path(path)}
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file not in beside
        and "assets.extra" not in file.parts
    ]


def write_manifest(
    path: str | os.PathLike, identity: str | None = None
) -> dict[str, str]:
    """Writes the manifest of a folder or of one .tflite file.

    That of a .tflite file covers its golden answers too, if it has some. The
    `identity` says what a version was made from, see `export`.

    Returns:
        The sha256 of each file, by its path relative to the manifest.
    """
    path = pathlib.Path(path)
    target = manifest_path(path)
    found = sorted(path.rglob("*"))
    if path.is_file():
        found = [path, golden_path(path)]
    files = {
        file.relative_to(target.parent).as_posix(): file_sha256(file)
        for file in found
        if file.is_file() and file != target
    }
    write_content(path, files, identity=identity)
    return files


def write_content(
    path: str | os.PathLike,
    files: dict[str, str],
    replaces: dict[str, str] | None = None,
    identity: str | None = None,
) -> None:
    """Writes a manifest with known hashes, and its own.

    `replaces` are those of the files' older versions, each still valid until
    the new one has taken its place.
    """
    content = {"files": files, "replaces": replaces or {}}
    content |= {} if identity is None else {"identity": identity}
    write_checksummed(manifest_path(path), {**content, "created": time.time()})


def read_manifest(path: str | os.PathLike) -> dict:
    """Reads the manifest of an export.

    Raises:
        VerificationError: If it is missing, damaged or none.
    """
    file = manifest_path(path)
    try:
        content = read_checksummed(file)
        # Other checksummed files are no manifests.
        for part in ("files", "replaces"):
            dict.items(content[part])
        return content
    except (*DAMAGED, KeyError) as error:
        raise VerificationError(
            f"{path} has no readable manifest: expected the sha256 of its "
            f"files in {file}. Export the model again. Received: {error!r}"
        ) from error


def check_manifest(path: str | os.PathLike) -> dict[str, str]:
    """Compares every file of an export with its manifest.

    Files that the manifest does not list are left alone: a server's settings
    may be added to a version's folder.

    Args:
        path: A SavedModel's folder or a .tflite file.

    Returns:
        The sha256 of each file, by its path relative to the manifest.

    Raises:
        VerificationError: If a file is missing or differs; the error names
            it.
    """
    content = read_manifest(path)
    found = {}
    for name, sha256 in content["files"].items():
        file = manifest_path(path).parent / name
        if not file.is_file():
            raise VerificationError(
                f"{file} is missing, though the manifest lists it. Export "
                "the model again."
            )
        found[name] = file_sha256(file)
        if found[name] not in (sha256, content["replaces"].get(name)):
            raise VerificationError(
                f"{file} is damaged or was changed: its sha256 is "
                f"{found[name]}, expected {sha256} as in the manifest. "
                "Export the model again."
            )
    return found
