# SPDX-License-Identifier: Apache-2.0
"""Fetching a data set: tried from several sources, trusted by its hash."""

from __future__ import annotations

import hashlib
import os
import pathlib
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping

import numpy as np

from keras_kd.core.progress import say
from keras_kd.core.records import write_atomically

Files = Mapping[str, bytes]


def home() -> pathlib.Path:
    """Returns the cache folder: `$KERAS_KD_HOME` or `~/.cache/keras_kd`."""
    chosen = os.environ.get("KERAS_KD_HOME")
    return pathlib.Path(chosen or "~/.cache/keras_kd").expanduser()


def fetch(
    name: str,
    hashes: Mapping[str, str],
    sources: Mapping[str, Callable[[], Files]],
) -> Files:
    """Returns a data set's files from the cache or the first good source.

    Each source is announced by one line on stderr. What a source delivers
    counts only if every file has the expected hash; it is then cached, so
    that the next call needs no network.

    Args:
        name: Folder name of the data set in the cache.
        hashes: File name to sha256 of its content.
        sources: What to call it in messages, to a function that returns the
            files or raises.

    Raises:
        FileNotFoundError: If no source delivers. The message names every
            try, and why it failed.
    """
    folder = home() / "datasets" / name
    cache = f"the cache {folder}"
    tries = {cache: lambda: read(folder, hashes), **sources}
    failures = []
    for source, deliver in tries.items():
        started = time.perf_counter()
        # Apart from a command's own output.
        say(f"{name}: trying {source} ...", file=sys.stderr)
        try:
            files = deliver()
            check_hashes(files, hashes)
        except Exception as error:  # any failure of a source means: the next
            seconds = time.perf_counter() - started
            reason = f"{type(error).__name__}: {error}"
            failures.append(f"  {source}: {reason}")
            told = f"{name}: not there after {seconds:.1f} s ({reason})"
            say(told, file=sys.stderr)
            continue
        if source != cache:
            for file_name in hashes:
                write_atomically(folder / file_name, files[file_name])
        return files
    raise FileNotFoundError(
        f"The data set {name!r} could not be fetched. Tried:\n"
        + "\n".join(failures)
        + f"\nPut the files {sorted(hashes)} into {folder} by hand, or "
        "connect to one of these sources and run again."
    )


def read(folder: pathlib.Path, names: Mapping[str, str]) -> Files:
    """Returns the content of the named files of a folder."""
    return {name: (folder / name).read_bytes() for name in names}


def check_hashes(files: Files, hashes: Mapping[str, str]) -> None:
    """Raises a ValueError unless each expected file is there, bit for bit."""
    for name, expected in hashes.items():
        found = hashlib.sha256(files.get(name, b"")).hexdigest()
        if found != expected:
            raise ValueError(
                f"{name} is missing or damaged: expected sha256 {expected}, "
                f"received {found}."
            )


def parse_idx(content: bytes) -> np.ndarray:
    """Returns the array in the bytes of an idx file (unsigned bytes only).

    Raises:
        ValueError: If the header is not one of an unsigned-byte idx file or
            does not fit the length of the content.
    """
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    if content[:3] != b"\0\0\x08" or len(content) < start:
        raise ValueError(
            "Expected an idx file of unsigned bytes, which begins with "
            f"00 00 08. Received: {content[:4].hex(' ')}"
        )
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4).tolist())
    if len(content) - start != np.prod(shape):
        raise ValueError(
            f"The idx header announces an array of shape {shape}. Received "
            f"{len(content) - start} bytes."
        )
    return np.frombuffer(content, "u1", offset=start).reshape(shape)
