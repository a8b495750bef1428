# SPDX-License-Identifier: Apache-2.0
"""Merging: the parts that several machines labelled become one cache."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.core.checksummed_json import DamagedFileError
from keras_kd.core.folders import check_folder
from keras_kd.core.leases import sweep
from keras_kd.targets.build.building import locked
from keras_kd.targets.store import manifest as manifests
from keras_kd.targets.store import shards


def merge(
    directories: Sequence[str | os.PathLike], into: str | os.PathLike
) -> None:
    """Makes one cache of all parts of a data set.

    Every shard is compared with its sha256 on the way, and the whole with
    the fingerprint of the data set that each part went through. The parts
    stay; a merge that was killed resumes when it is called again.

    Args:
        directories: Folders of the parts, in any order.
        into: Folder of the whole. Its files are those that a single build
            would have written.

    Raises:
        ValueError: If a part is missing, unfinished, damaged, given twice,
            or was labelled with other settings or other data.
    """
    into = pathlib.Path(into)
    directories = [pathlib.Path(directory) for directory in directories]
    parts = [_finished(directory) for directory in directories]
    _check_complete([part["settings"]["part"] for part in parts])
    wanted = _comparable(parts[0])
    found = []
    for directory, part in zip(directories, parts, strict=True):
        manifests.compare_settings(_comparable(part), wanted, directory)
        found += manifests.open_shards(directory, part)
    found.sort(key=lambda shard: shard.number)
    data = wanted.pop("data")
    check_folder(into)
    with locked(into):
        manifests.settle(into, {**wanted, "part": None})
        folder = into / manifests.SHARDS
        sweep(folder, lease=0)
        merged = [_copy(shard, folder) for shard in found]
        marks = manifests.all_fingerprints(merged)
        sha256 = hashlib.sha256(marks.tobytes()).hexdigest()
        whole = {"samples": len(marks), "sha256": sha256}
        if whole != data:
            raise ValueError(
                "The parts do not make up the data set that they were "
                f"labelled from. Expected: {data}. Received: {whole}. Run "
                "`keras-kd targets verify` on each."
            )
        shapes = parts[0].get("sample_shapes")
        manifests.write_manifest(into, merged, whole, {}, shapes)


def _finished(directory: pathlib.Path) -> dict[str, Any]:
    manifest = manifests.read_manifest(directory)
    if manifest is None:
        raise ValueError(
            f"{directory} must be a finished part. Received: a folder without "
            f"{manifests.MANIFEST}. Call `build` with its `part` again to "
            "finish it."
        )
    return manifest


def _check_complete(given: list) -> None:
    count = given[0][1] if given and given[0] else 0
    wanted = [[index, count] for index in range(count)]
    if not count or sorted(given, key=str) != sorted(wanted, key=str):
        raise ValueError(
            "`directories` must be all parts of one data set, each once. "
            f"Expected: {wanted or 'caches built with part=(i, n)'}. "
            f"Received: {given}"
        )


def _comparable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns what all parts have in common."""
    own = ("format", "versions", "part")
    settings = manifest["settings"].items()
    common = {key: value for key, value in settings if key not in own}
    return {**common, "data": manifest["data"]}


def _copy(shard, folder):
    try:
        return shards.Shard(folder / shards.name_of(shard.number), shard.sha256)
    except DamagedFileError:
        pass  # not copied yet, or not wholly
    names = [pathlib.Path(name).stem for name in shard.record["files"]]
    fields = {name: np.array(shard.read(name)) for name in names}
    place = shard.number, shard.first
    return shards.write_shard(folder, *place, fields, shard.facts)
