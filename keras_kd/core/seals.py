# SPDX-License-Identifier: Apache-2.0
"""Seals: JSON values that carry a sha256 of themselves."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any

SEAL = "seal"


MALFORMED = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RecursionError),
)
"""Raised where JSON values are not of the form that was written."""


class DamagedFileError(ValueError):
    """A file does not hold what was once written to it."""


@contextlib.contextmanager
def reading(path: str | os.PathLike, what: str):
    """Says that a file is not what it should be, where its values do not fit.

    Args:
        path: The file.
        what: What it should be, such as `"the manifest of a cache"`.

    Raises:
        DamagedFileError: In place of what is in `MALFORMED`.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except MALFORMED as error:
        raise DamagedFileError(
            f"{path} is not {what}: it is damaged or was changed. Restore it "
            "from a backup, or run again what wrote it. Received: "
            f"{error!r:.300}"
        ) from error


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Returns JSON values with a sha256 of themselves, in their own order.

    For files that people read; spaces do not count.
    """
    return {**content, SEAL: _seal(content)}


def unsealed(content: Any, path: str | os.PathLike) -> dict[str, Any]:
    """Returns what `sealed` was given; what has no seal, as it is.

    Raises:
        DamagedFileError: If a value or name is another; `path` is named.
    """
    if not isinstance(content, dict) or SEAL not in content:
        return content  # of an earlier version
    content = dict(content)
    if content.pop(SEAL) != _seal(content):
        raise DamagedFileError(
            f"{path} is damaged or was edited: its content does not fit its "
            "own checksum. Expected the file as it was written. Restore it "
            "from a backup, or run again what wrote it."
        )
    return content


def _seal(content):
    # As it is read back: names are text then, and sorted as such.
    plain = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(plain.encode("utf-8")).hexdigest()
