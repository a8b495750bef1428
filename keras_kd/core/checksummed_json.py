# SPDX-License-Identifier: Apache-2.0
"""JSON files that carry their own checksum."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

from keras_kd.core.records import write_atomically
from keras_kd.core.seals import SEAL
from keras_kd.core.seals import DamagedFileError


def write_checksummed(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Writes JSON values with a sha256 of themselves, atomically."""
    write_atomically(path, _text(content))


def read_checksummed(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what `write_checksummed` wrote.

    Raises:
        DamagedFileError: If a single byte of the file is another.
        FileNotFoundError: If there is no such file.
    """
    written = pathlib.Path(path).read_bytes()
    try:
        content = json.loads(written)
        content.pop(SEAL)
        sound = _text(content).encode("utf-8") == written
    except (
        *(ValueError, KeyError, AttributeError, TypeError),
        RecursionError,
    ):
        sound = False
    if not sound:
        raise DamagedFileError(
            f"{path} is damaged: it is not what was written there. Expected "
            "JSON that matches its own checksum."
        )
    return content


def _text(content):
    # One way to write given values, so that the bytes can be compared.
    plain = json.dumps(content, indent=1, sort_keys=True)
    seal = hashlib.sha256(plain.encode("utf-8")).hexdigest()
    return json.dumps({**content, SEAL: seal}, indent=1, sort_keys=True) + "\n"
