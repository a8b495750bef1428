# SPDX-License-Identifier: Apache-2.0
"""Mutations: what chance, or somebody with bad intentions, makes of a file.

Half of those of JSON files get their checksum again, as by somebody who
knows how it is made.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pathlib
import pickle
import shutil
import sys
import zipfile

import numpy as np

from keras_kd.core.checksummed_json import write_checksummed
from keras_kd.core.seals import SEAL
from keras_kd.core.seals import sealed
from keras_kd.core.stage_cache import fingerprint

ESCAPES = "\x1b[2J\x1b]52;c;aGk=\x07\x9b\u202e\ud800"
DEEP = "[" * 100_000
VALUES = (
    *([], {}, None, True, "", 0, -1, 1.5, 10**400, 1e308, float("nan")),
    *(float("inf"), ESCAPES, "x" * 100_000, "../../../etc/passwd", "/dev/zero"),
    *([[]], {"a": {}}, [1, 2, 3], "nan", ["\x1b[31m"], {"\x1b[31m": 1}),
)


class Bomb:
    """Unpickled, it says so."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def flip(path, rng):
    """Changes one bit."""
    content = bytearray(path.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path, rng):
    """Keeps the beginning of a file."""
    os.truncate(path, rng.randrange(max(path.stat().st_size, 1)))


def empty(path, rng):
    """Keeps nothing of a file but its name."""
    os.truncate(path, 0)


def delete(path, rng):
    """Removes a file."""
    path.unlink()


DAMAGES = (flip, cut, empty, delete)


def scribble(path, rng):
    """Writes random bytes into the middle."""
    content = bytearray(path.read_bytes())
    at, count = rng.randrange(len(content) + 1), rng.randrange(1, 64)
    content[at : at + count] = rng.randbytes(count)
    path.write_bytes(content)


def into_folder(path, rng):
    """Puts a folder where the file was."""
    path.unlink()
    path.mkdir()


def into_pickle(path, rng):
    """Puts a pickle there that leaves a mark, in a form of the file's kind."""
    bomb = Bomb(path.parent / ".ran")
    if path.suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("tolerance.npy", _npy_of(bomb))
    elif path.suffix == ".npy":
        path.write_bytes(_npy_of(bomb))
    else:
        path.write_bytes(pickle.dumps(bomb))


def into_huge(path, rng):
    """Claims more numbers than any memory holds; or packs a gigabyte."""
    header = io.BytesIO()
    shape = (2 ** rng.choice([20, 33, 40, 62]),)
    told = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, told)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("input/x.npy", header.getvalue())
            archive.writestr("tolerance.npy", header.getvalue() + b"\0" * 2**22)
    else:
        path.write_bytes(header.getvalue() + b"\0" * 64)


def into_deep(path, rng):
    """Nests lists deeper than any parser goes."""
    if path.suffix == ".json":
        path.write_text(f'{{"{SEAL}": {DEEP}')
    else:
        scribble(path, rng)


def arrays(path, rng):
    """Changes one array of an .npz file: its shape, kind or values."""
    if path.suffix != ".npz":
        return scribble(path, rng)
    with np.load(path, allow_pickle=False) as file:
        found = dict(file)
    name = rng.choice(sorted(found))
    found[name] = rng.choice(
        [
            *(np.zeros(0), np.zeros((2, 3, 4, 5)), np.array(["\x1b[2J"])),
            *(np.full(3, np.nan), np.array(np.inf), np.array(-1), np.zeros(7)),
            *(np.zeros((), "datetime64[s]"), np.zeros(2, "c16")),
        ]
    )
    np.savez(path, **found)


def values(path, rng):
    """Changes a value or a name of a JSON file, checksum included or not."""
    if path.suffix != ".json":
        return scribble(path, rng)
    content = json.loads(path.read_text("utf-8"))
    kind = _kind(content)
    inner = content["study"] if kind == "study" else content
    for _ in range(rng.choice([1, 1, 1, 3])):
        inner = _changed(inner, rng)
    if isinstance(inner, dict) and rng.random() < 0.5:
        inner.pop(SEAL, None)
        if kind == "study":
            inner = {"sha256": fingerprint(inner), "study": inner}
        elif kind == "ordered":
            inner = sealed(inner)
        else:
            return write_checksummed(path, inner)
    elif kind == "study":
        inner = {**content, "study": inner}
    path.write_text(json.dumps(inner, indent=1, sort_keys=kind == "sorted"))


def _kind(content):
    if "study" in content:
        return "study"
    plain = {k: v for k, v in content.items() if k != SEAL}
    text = json.dumps(plain, indent=1, sort_keys=True)
    is_sorted = hashlib.sha256(text.encode()).hexdigest() == content.get(SEAL)
    return "sorted" if is_sorted else "ordered"


def _changed(content, rng):
    """Returns JSON values with one of them replaced, removed or renamed."""
    content = copy.deepcopy(content)
    places = list(_places(content))
    if not places:
        return copy.deepcopy(rng.choice(VALUES))
    holder, key = rng.choice(places)
    how = rng.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.25 and isinstance(holder, dict):
        holder[f"{key}{rng.choice(['', ESCAPES, 'x'])}"] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    return content


def _places(content):
    pairs = content.items() if isinstance(content, dict) else ()
    pairs = enumerate(content) if isinstance(content, list) else pairs
    for key, value in list(pairs):
        yield content, key
        yield from _places(value)


ALL = (
    *DAMAGES,
    *(scribble, into_folder, into_pickle, into_huge, into_deep, arrays),
    *(values,) * 10,
)


class Kept:
    """A file that is what it was at the end of the block, whatever happened."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.content = path.read_bytes()

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        if self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.write_bytes(self.content)


def _npy_of(bomb):
    buffer = io.BytesIO()
    np.save(buffer, np.array([bomb], dtype=object), allow_pickle=True)
    return buffer.getvalue()


sys.set_int_max_str_digits(0)  # JSON of ours may hold numbers of any length
