# SPDX-License-Identifier: Apache-2.0
"""Data frames in the files of R's packages, read without R.

Only data are read: of what could hold code or a pointer nothing is made.
Format: "Serialization Formats" in the manual R Internals.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from typing import Any

import numpy as np

_UNPACK = {
    b"\x1f\x8b": gzip.decompress,
    b"BZ": bz2.decompress,
    b"\xfd7": lzma.decompress,
    b"x\x9c": zlib.decompress,
}
_NUMBERS = {10: (">i4", "i4"), 13: (">i4", "i4"), 14: (">f8", "f8")}
_SYMBOL, _PAIRS, _CHARACTERS, _STRINGS, _LIST = 1, 2, 9, 16, 19
_COMPACT, _NOTHING, _SEEN = 238, 254, 255
_EMPTY = {253, 252, 251, 242, 241}  # environments and the like


def read_rda(content: bytes) -> dict[str, Any]:
    """Returns the objects of an .rda file by name.

    A data frame is a dict of its columns, a factor an array of strings.

    Args:
        content: Of the file.

    Raises:
        ValueError: If it is no such file, or holds more than data.
    """
    content = _unpacked(content)
    if content[:5] not in (b"RDX2\n", b"RDX3\n"):
        raise ValueError(
            "Expected an .rda file, which begins with RDX2 or RDX3. "
            f"Received: {content[:5]!r}"
        )
    return dict(_Reader(content[5:]).read())


def read_lazy(index: bytes, base: bytes, name: str) -> Any:
    """Returns one object of a package's data base.

    Args:
        index: Content of `Rdata.rdx`.
        base: Content of `Rdata.rdb`.
        name: Of the object.

    Raises:
        ValueError: If there is none of that name, or it is more than data.
    """
    places = _Reader(_unpacked(index)).read()["variables"]
    if name not in places:
        raise ValueError(
            f"There is no object {name!r}. Expected one of {sorted(places)}."
        )
    start, length = map(int, places[name])
    # Its length when unpacked, then how it is packed; zlib has no letter.
    packed = base[start + 4 : start + length]
    unpack = {b"2": bz2.decompress, b"Z": _raw_lzma}.get(packed[:1])
    return _Reader(
        unpack(packed[1:]) if unpack else zlib.decompress(packed)
    ).read()


def _raw_lzma(packed):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    return lzma.decompress(packed, lzma.FORMAT_RAW, filters=filters)


def _unpacked(content):
    unpack = _UNPACK.get(content[:2])
    return unpack(content) if unpack else content


class _Reader:
    """Reads one serialised object (XDR), depth first."""

    def __init__(self, content):
        if content[:2] != b"X\n":
            raise ValueError(
                "Expected an object that R serialised as XDR. Received: "
                f"{content[:2]!r}"
            )
        self.content, self.place = content, 2
        version, _, _ = (self._int() for _ in range(3))
        if version == 3:
            self._take(self._int())  # the name of the encoding
        self.symbols = []

    def read(self):
        flags = self._int()
        kind, has_attributes, has_tag = flags & 255, flags & 512, flags & 1024
        if kind == _NOTHING or kind in _EMPTY:
            return None
        if kind == _SEEN:
            return self.symbols[(flags >> 8 or self._int()) - 1]
        if kind == _SYMBOL:
            self.symbols.append(self.read())
            return self.symbols[-1]
        if kind == _CHARACTERS:
            length = self._int()
            if length < 0:
                return None  # not available
            # The flags may say Latin-1; today all else is UTF-8.
            encoding = "latin-1" if flags >> 12 & 4 else "utf-8"
            return self._take(length).decode(encoding)
        if kind == _PAIRS:
            return self._pairs(has_attributes, has_tag)
        if kind == _COMPACT:
            return self._compact()
        if kind in _NUMBERS:
            stored, dtype = _NUMBERS[kind]
            length = self._int()
            width = int(stored[-1])
            value = np.frombuffer(self._take(width * length), stored)
            value = value.astype(dtype)
        elif kind in (_STRINGS, _LIST):
            value = [self.read() for _ in range(self._int())]
        else:
            raise ValueError(
                "Expected numbers, strings, lists and factors only. "
                f"Received: an object of R's type {kind}."
            )
        names = self.read() if has_attributes else {}
        return _plain(value, names)

    def _pairs(self, has_attributes, has_tag):
        """A linked list of names and values."""
        found, kind = {}, _PAIRS
        while kind == _PAIRS:
            if has_attributes:
                self.read()
            tag = self.read() if has_tag else len(found)
            found[tag] = self.read()
            flags = self._int()
            kind = flags & 255
            has_attributes, has_tag = flags & 512, flags & 1024
        return found

    def _compact(self):
        """`1:n` and the like are kept as length, start and step."""
        kind, state = self.read()[0], self.read()
        self.read()
        if kind not in ("compact_intseq", "compact_realseq"):
            raise ValueError(f"Cannot read R's compact form {kind!r}.")
        length, start, step = state
        return start + step * np.arange(length)

    def _int(self):
        return struct.unpack(">i", self._take(4))[0]

    def _take(self, count):
        taken = self.content[self.place : self.place + count]
        if len(taken) < count:
            raise ValueError("The object of R ends too early.")
        self.place += count
        return taken


def _plain(value, attributes):
    if "levels" in attributes:
        levels = np.array([*attributes["levels"], ""])
        return levels[np.where(value > 0, value, 0) - 1]
    if "names" in attributes and isinstance(value, list):
        return dict(zip(attributes["names"], value, strict=True))
    return value
