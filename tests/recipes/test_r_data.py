# SPDX-License-Identifier: Apache-2.0
"""Made-up files of R, written here byte by byte."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib

import numpy as np
import pytest

from keras_kd.recipes import _r_data

HEADER = b"X\n" + struct.pack(">3i", 2, 0x30500, 0x20300)
NOTHING = struct.pack(">i", 254)


def integer(*values):
    return struct.pack(f">{len(values)}i", *values)


def text(value, flags=9 | 64 << 12):
    return integer(flags, len(value)) + value


def strings(*values, flags=16):
    return integer(flags, len(values)) + b"".join(map(text, values))


def numbers(*values):
    return integer(14, len(values)) + struct.pack(f">{len(values)}d", *values)


def symbol(name):
    return integer(1) + text(name)


def pairs(**values):
    each = [
        integer(2 | 1024) + symbol(name.encode()) + value
        for name, value in values.items()
    ]
    return b"".join(each) + NOTHING


def frame(**columns):
    """A list with names, and row names of no use."""
    names = [name.encode() for name in columns]
    attributes = pairs(
        **{"names": strings(*names), "row.names": integer(13, 2, -(2**31), -2)}
    )
    values = b"".join(columns.values())
    return integer(19 | 512 | 256, len(columns)) + values + attributes


FACTOR = (
    integer(13 | 512 | 256, 3, 2, 1, -(2**31))
    + integer(2 | 1024)
    + symbol(b"levels")
    + strings(b"low", b"high")
    + NOTHING
)
FRAME = frame(kind=FACTOR, size=numbers(1.5, 2.0, -3.0), name=strings(b"a"))


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, bytes]
)
def test_a_data_frame_is_a_dict_of_its_columns(pack):
    content = pack(b"RDX2\n" + HEADER + pairs(mine=FRAME))
    (table,) = _r_data.read_rda(content).values()
    assert list(table) == ["kind", "size", "name"]
    assert table["kind"].tolist() == ["high", "low", ""]
    np.testing.assert_array_equal(table["size"], [1.5, 2.0, -3.0])
    assert table["name"] == ["a"]


def test_newer_files_name_their_encoding_and_write_ranges_shortly():
    header = b"X\n" + integer(3, 0x40200, 0x30500, 5) + b"UTF-8"
    info = integer(2) + symbol(b"compact_intseq") + NOTHING
    short = integer(238) + info + numbers(3.0, 5.0, 1.0) + NOTHING
    latin = integer(16, 1) + text("\xe9".encode("latin-1"), 9 | 4 << 12)
    content = b"RDX3\n" + header + pairs(range=short, accent=latin)
    found = _r_data.read_rda(content)
    assert found["range"].tolist() == [5, 6, 7]
    assert found["accent"] == ["\xe9"]


def raw_lzma(content):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    return b"Z" + lzma.compress(content, lzma.FORMAT_RAW, filters=filters)


@pytest.mark.parametrize(
    "pack", [zlib.compress, lambda c: b"2" + bz2.compress(c), raw_lzma]
)
def test_one_object_of_a_packages_data_base(pack):
    packed = integer(0) + pack(HEADER + FRAME)
    places = frame(mine=integer(13, 2, 7, len(packed)))
    index = zlib.compress(HEADER + frame(variables=places))
    base = b"before " + packed + b" after"
    assert list(_r_data.read_lazy(index, base, "mine")) == [
        *("kind", "size", "name")
    ]
    with pytest.raises(ValueError, match=r"'yours'. Expected .*\['mine'\]"):
        _r_data.read_lazy(index, base, "yours")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"PK\x03\x04", "Expected an .rda file"),
        (b"RDX2\nA\n", "serialised as XDR"),
        (b"RDX2\n" + HEADER + pairs(f=integer(3)), "an object of R's type 3"),
        (b"RDX2\n" + HEADER + pairs(mine=FRAME)[:-9], "ends too early"),
    ],
)
def test_what_is_no_data_of_r_is_refused(content, fragment):
    with pytest.raises(ValueError, match=fragment):
        _r_data.read_rda(content)
