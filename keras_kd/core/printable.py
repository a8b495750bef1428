# SPDX-License-Identifier: Apache-2.0
"""printable(): text of files of others, as a terminal may be sent it."""

from __future__ import annotations

import unicodedata
from typing import Any


def printable(text: Any) -> str:
    r"""Returns text without what a terminal would obey.

    Control characters (the escape codes of colours, titles and clipboards,
    and those that turn the order of reading) become their escapes, such as
    a backslash and x1b, and so do halves of characters, which cannot be
    written at all. Line breaks and tabs stay.

    Args:
        text: Of any origin: a name, a message, a value of a JSON file.

    Example:

    ```python
    printable("cnn\x1b[2J")  # 'cnn\\x1b[2J'
    ```
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else _escape(c) for c in text)


def _is_harmless(character):
    kind = unicodedata.category(character)
    return character in "\n\t" or not (kind[0] == "C" or kind in ("Zl", "Zp"))


def _escape(character):
    return character.encode("unicode_escape").decode("ascii")
