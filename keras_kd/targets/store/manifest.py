# SPDX-License-Identifier: Apache-2.0
"""What a cache says of itself: settings, written first; manifest, last."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
from typing import Any

import numpy as np

from keras_kd.core.checksummed_json import DamagedFileError
from keras_kd.core.checksummed_json import read_checksummed
from keras_kd.core.checksummed_json import write_checksummed
from keras_kd.core.seals import reading
from keras_kd.targets.store.shards import Shard
from keras_kd.targets.store.shards import name_of

FORMAT = 1
SETTINGS = "settings.json"
MANIFEST = "manifest.json"
SHARDS = "shards"
_PACKAGES = ("keras_kd", "keras", "tensorflow", "numpy")


def read_settings(directory: pathlib.Path) -> dict[str, Any] | None:
    """Returns the settings of a cache, or `None` where there is none.

    Raises:
        ValueError: If the file is damaged or of another format.
    """
    path = directory / SETTINGS
    if not path.exists():
        return None
    settings = read_checksummed(path)
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"{path} must be of format {FORMAT}. Received: format "
            f"{settings.get('format')}, which another version of keras_kd "
            "wrote. Label again, in another directory."
        )
    return settings


def settle(directory: pathlib.Path, settings: dict[str, Any]) -> None:
    """Writes the settings of a cache, or compares them with those there.

    The versions of packages are written down but not compared: a cache
    outlives an upgrade.

    Raises:
        ValueError: If there are others; names what differs.
    """
    found = read_settings(directory)
    if found is None:
        versions = {
            name: importlib.metadata.version(name) for name in _PACKAGES
        }
        versions["python"] = platform.python_version()
        settings = {"format": FORMAT, **settings, "versions": versions}
        write_checksummed(directory / SETTINGS, settings)
    else:
        compare_settings(found, settings, directory)


def compare_settings(
    found: dict[str, Any], wanted: dict[str, Any], directory: pathlib.Path
) -> None:
    """Raises if settings differ in anything that `wanted` speaks of."""
    differing = [
        f"{key}: {found.get(key)!r} there, {value!r} here"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if differing:
        raise ValueError(
            f"{directory} holds targets that were labelled with other "
            "settings. Expected the same settings, to continue it or to read "
            "it. "
            f"Received: {'; '.join(differing)}. Use the same settings, or "
            "another directory."
        )


def read_manifest(directory: pathlib.Path) -> dict[str, Any] | None:
    """Returns the manifest of a finished cache, else `None`.

    Raises:
        DamagedFileError: If it is damaged.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    content = read_checksummed(path)
    with reading(path, "a manifest"):
        settings = content["settings"]
        settings["views"] + 0, settings["part"], settings["augment"]
        settings["agreement"], settings["taps"]
        content["data"], content["labelled_with"]
        dict.items(content["encodings"])
        content["samples"] + 0
        for entry in content["shards"]:
            entry["number"] + entry["samples"], entry["sha256"].encode()
    return content


def write_manifest(
    directory: pathlib.Path,
    shards: list[Shard],
    data: dict[str, Any],
    unless: dict[str, Any],
    shapes: list | None = None,
) -> None:
    """Writes the manifest, with which a cache is finished.

    Args:
        directory: Folder of the cache, its settings in it.
        shards: All shards, in order.
        data: `samples` and `sha256` of the data set's fingerprints.
        unless: What to say of encodings where a part has no shard.
        shapes: Shape of one sample of each input; `None`: not known.
    """
    facts = [shard.facts for shard in shards]
    engines = [fact["labelled_with"] for fact in facts]
    content = {
        "settings": read_settings(directory),
        "samples": sum(map(len, shards)),
        "data": data,
        "sample_shapes": shapes,
        "encodings": facts[0]["encodings"] if facts else unless,
        "labelled_with": [
            engine
            for place, engine in enumerate(engines)
            if engine not in engines[:place]
        ],
        "shards": [shard.entry() for shard in shards],
    }
    if read_if_sound(directory) != content:
        write_checksummed(directory / MANIFEST, content)


def read_if_sound(directory: pathlib.Path) -> dict[str, Any] | None:
    """Returns the manifest, or `None` where it is missing or damaged."""
    try:
        return read_manifest(directory)
    except DamagedFileError:
        return None


def open_shards(
    directory: pathlib.Path, manifest: dict[str, Any]
) -> list[Shard]:
    """Returns the shards that a manifest lists, their records compared."""
    return [
        Shard(directory / SHARDS / name_of(entry["number"]), entry["sha256"])
        for entry in manifest["shards"]
    ]


def problems(directory: pathlib.Path) -> list[tuple[str, str]]:
    """Returns `(path, problem)` of each file of a cache, `""` where sound.

    Args:
        directory: Folder of the cache; paths are relative to it.
    """
    found, manifest = [], None
    for name, read in ((SETTINGS, read_settings), (MANIFEST, read_manifest)):
        try:
            content = read(directory)
            problem = "" if content else "missing: labelling is not finished"
        except ValueError as error:
            content, problem = None, str(error)
        found.append((name, problem))
        manifest = content
    if manifest is None:
        return found
    if not found[0][1] and read_settings(directory) != manifest["settings"]:
        found[0] = (SETTINGS, "not the settings that the manifest lists")
    for entry in manifest["shards"]:
        folder = f"{SHARDS}/{name_of(entry['number'])}"
        record = f"{folder}/shard.json"
        try:
            shard = Shard(directory / folder, entry["sha256"])
        except DamagedFileError as error:
            found.append((record, str(error)))
            continue
        found.append((record, ""))
        found += [
            (f"{folder}/{path.name}", problem)
            for path, problem in shard.problems()
        ]
    return found


def info(directory: pathlib.Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns what there is to know of a cache, as JSON values."""
    files = directory.rglob("*")
    size = sum(path.stat().st_size for path in files if path.is_file())
    rows = manifest["samples"] * manifest["settings"]["views"]
    return {
        **manifest["settings"],
        "samples": manifest["samples"],
        "shards": len(manifest["shards"]),
        "bytes": size,
        "bytes_per_sample_and_view": round(size / rows, 1) if rows else 0,
        "labelled_with": manifest["labelled_with"],
        "data": manifest["data"],
    }


def all_fingerprints(shards: list[Shard]) -> np.ndarray:
    """Returns the fingerprints of all samples, uint64 `(samples,)`."""
    found = [np.array(shard.read("fingerprint")) for shard in shards]
    return np.concatenate([np.zeros(0, "uint64"), *found])
