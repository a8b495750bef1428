# SPDX-License-Identifier: Apache-2.0
"""Shards: folders of arrays that appear whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_kd.core.checksummed_json import DamagedFileError
from keras_kd.core.checksummed_json import read_checksummed
from keras_kd.core.checksummed_json import write_checksummed
from keras_kd.core.folders import telling_of_a_full_disk
from keras_kd.core.leases import temporary_name
from keras_kd.core.records import file_sha256
from keras_kd.core.records import sync_folder
from keras_kd.core.seals import reading

RECORD = "shard.json"


def write_shard(
    folder: pathlib.Path,
    number: int,
    first: int,
    fields: dict[str, np.ndarray],
    facts: dict[str, Any],
) -> Shard:
    """Writes one shard so that a reader sees all of it or nothing.

    The arrays go to a temporary folder beside the final one, are flushed to
    the disk, and take their final name by one rename. A crash or a full disk
    leaves no shard, and every other shard as it was.

    Args:
        folder: Where the shards of a cache are.
        number: Number of the shard; its folder's name.
        first: Place of its first sample in the data set.
        fields: Arrays of shape `(samples, ...)` by field name.
        facts: How it was made, as JSON values: `encodings` of the taps, and
            the engine it was `labelled_with`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / name_of(number)
    temporary = folder / temporary_name(name=final.name)
    try:
        with telling_of_a_full_disk(folder):
            temporary.mkdir()
            files = {
                f"{name}.npy": _save(temporary / f"{name}.npy", array)
                for name, array in fields.items()
            }
            record = {
                "number": number,
                "first": first,
                "samples": len(next(iter(fields.values()))),
                "facts": facts,
                "files": files,
            }
            write_checksummed(temporary / RECORD, record)
            sync_folder(temporary)
            if final.exists():  # a damaged one, which this one replaces
                shutil.rmtree(final)
            os.rename(temporary, final)
            sync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Shard(final)


def _save(path: pathlib.Path, array: np.ndarray) -> str:
    """Writes an array to the disk and returns the sha256 of its file."""
    # Not straight to the file: on a full disk NumPy cuts a small array short
    # without an error. And the sha256 must be of what was meant.
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with open(path, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def name_of(number: int) -> str:
    """Returns the name of a shard's folder."""
    return f"{number:05d}"


def shards_on_disk(folder: pathlib.Path) -> list[int]:
    """Returns the numbers of the shards that are there, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


class Shard:
    """A finished shard.

    Args:
        folder: Its folder.
        sha256: What its record must hash to, if that is known.

    Raises:
        DamagedFileError: If its record is missing, damaged, or another one.
    """

    def __init__(self, folder: pathlib.Path, sha256: str | None = None):
        self.folder = folder
        path = folder / RECORD
        try:
            self.record = read_checksummed(path)
        except FileNotFoundError:
            raise DamagedFileError(f"{path} is missing.") from None
        self.sha256 = file_sha256(path)
        if sha256 not in (None, self.sha256):
            raise DamagedFileError(
                f"{path} is not the file that the manifest lists."
            )
        with reading(path, "the record of a shard"):
            self.number: int = self.record["number"]
            self.first: int = self.record["first"]
            dict.items(self.record["files"])
            self.record["facts"]["labelled_with"], self.record["samples"] + 0
        self._checked = False

    def __len__(self) -> int:
        return self.record["samples"]

    @property
    def facts(self) -> dict[str, Any]:
        """How it was made."""
        return self.record["facts"]

    def problems(self) -> Iterator[tuple[pathlib.Path, str]]:
        """Yields `(path, problem)` of each file; `""` where it is sound."""
        for name, sha256 in self.record["files"].items():
            path = self.folder / name
            if not path.is_file():
                yield path, "missing"
            elif file_sha256(path) != sha256:
                yield path, "damaged: its sha256 is not the one written down"
            else:
                yield path, ""

    def check(self) -> None:
        """Compares each file with its sha256, once.

        Raises:
            DamagedFileError: With the path of the first damaged file.
        """
        for path, problem in [] if self._checked else self.problems():
            if problem:
                raise DamagedFileError(
                    f"{path} is {problem}. Call `build` with the same teacher "
                    "and data again: it writes damaged shards anew and keeps "
                    "the others."
                )
        self._checked = True

    def read(self, field: str) -> np.ndarray:
        """Returns a field of shape `(samples, ...)`, mapped from the disk.

        Raises:
            DamagedFileError: If a file of the shard is damaged.
        """
        self.check()
        path = self.folder / f"{field}.npy"
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def entry(self) -> dict[str, Any]:
        """Returns what the manifest says of this shard, as JSON values."""
        record = {k: v for k, v in self.record.items() if k != "facts"}
        return {**record, "sha256": self.sha256}
