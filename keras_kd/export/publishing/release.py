# SPDX-License-Identifier: Apache-2.0
"""release(): all files of one export take their final names.

A version of a SavedModel is a new folder; a .tflite file and the serving
files keep their names, so older ones stand where the new ones go. Each is
replaced by one rename: wherever a process is killed, every file is the old
one or the new one, whole, and the manifest knows both.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable

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
from keras_kd.export.publishing.staging import staging
from keras_kd.export.publishing.versions import publish
from keras_kd.export.serving.serving_files import FOLDER
from keras_kd.export.verification.golden import carry_over
from keras_kd.export.verification.golden import read_golden


def release(
    staged: dict[str, pathlib.Path],
    base_dir: str | os.PathLike,
    keep: int | None,
    texts: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, pathlib.Path]:
    """Publishes what was verified: a version, then the .tflite files.

    A kill or a full disk in between leaves what was published so far; no
    file under a final name is ever half of one. What is staged, by
    `staging(base_dir)`, is a SavedModel's folder by `"saved_model"`, with
    the texts of its serving files, and .tflite files by their kind. Returns
    the published paths by the same names.
    """
    base_dir = pathlib.Path(base_dir)
    published = {}
    with staging(base_dir) as folder:
        if "saved_model" in staged:
            # All is written before the first file is published.
            for name, text in texts.items():
                (folder / name).write_text(text, "utf-8")
            version = publish(staged["saved_model"], base_dir, keep)
            published["saved_model"] = version
            say(f"published {version}")
            _publish_folder(folder, base_dir / FOLDER)
    for kind, path in staged.items():
        if kind != "saved_model":
            published[kind] = base_dir / path.name
            publish_file(path, published[kind])
            say(f"published {published[kind]}")
    return published


def files_of(published: dict[str, pathlib.Path]) -> list[pathlib.Path]:
    """Returns all files that `release` wrote: models, and what lies beside."""
    roots = []
    for path in published.values():
        if path.is_file():
            roots += [path, manifest_path(path), golden_path(path)]
        else:
            roots += [path, path.parent / FOLDER]
    files = [f for root in roots for f in (root, *sorted(root.rglob("*")))]
    return [file for file in files if file.is_file()]


def publish_file(staged_file: pathlib.Path, target: pathlib.Path) -> None:
    """Replaces a .tflite file, its manifest, and its golden answers if any."""
    with file_lock(target.parent):
        staged = {target.name: staged_file}
        golden = golden_path(staged_file)
        if golden.exists():
            older = None
            with contextlib.suppress(VerificationError):
                check_manifest(target)
                older = read_golden(target)
            if older is not None:
                carry_over(older, staged_file)
            # First: until the last rename the old file answers by it, too.
            staged = {golden_path(target).name: golden, **staged}
        _replace(staged_file, target, staged)


def _publish_folder(staged_dir, target):
    with file_lock(target.parent):
        if target.exists():
            names = sorted(os.listdir(staged_dir))
            _replace(staged_dir, target, {n: staged_dir / n for n in names})
        else:
            write_manifest(staged_dir)
            flush(staged_dir)
            os.rename(staged_dir, target)
            sync_folder(target.parent)


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
