# SPDX-License-Identifier: Apache-2.0
"""Arrays in a file under any names, which np.savez takes for arguments.

It needs NumPy only, and nothing of this package.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

MOST = 2**30
"""Bytes that arrays may take which are packed into less."""
_DAMAGED = (
    *(ValueError, LookupError, TypeError, EOFError, RuntimeError),
    *(OverflowError, struct.error, zlib.error, zipfile.BadZipFile),
)


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, object]) -> None:
    """Writes an .npz file that `np.load` reads.

    `np.savez` has a parameter of its own, `file`, which may be an input's
    name.

    Args:
        path: Of the file, its ending included.
        arrays: Arrays by name; none holds objects.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(
                    file, np.asanyarray(array), allow_pickle=False
                )


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns all arrays of an .npz file that anybody may have written.

    No more memory is asked for than the file takes, or `MOST`; no object is
    unpickled.

    Raises:
        ValueError: If it is no such file, damaged, or claims to be larger.
        OSError: If it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > max(MOST, os.path.getsize(path)):
                raise ValueError(f"{size:,} bytes are packed in it")
            return {
                member.filename.removesuffix(".npy"): _read(archive, member)
                for member in members
            }
    except _DAMAGED as error:
        raise ValueError(
            f"{path} cannot be read: it is damaged or no file of arrays. "
            f"Received: {error!r}"
        ) from error


def _read(archive, member):
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(file)
        else:
            header = np.lib.format.read_array_header_2_0(file)
        shape, _, dtype = header
        # In Python's numbers, which do not overflow.
        count = 1
        for length in shape:
            count *= length
        if dtype.hasobject or count * dtype.itemsize > member.file_size:
            raise ValueError(f"{member.filename} claims {shape} of {dtype}")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
