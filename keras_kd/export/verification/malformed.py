# SPDX-License-Identifier: Apache-2.0
"""Hostile requests: what a server must refuse, and what it must outlive.

A request of 25 bytes can abort a whole server: TensorFlow Serving checks the
dtype of what it is sent, not its shape, and neither checks the values.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# One value of a text input; a server's default limit for all is far above.
HUGE_TEXT = 2**20


@dataclasses.dataclass(frozen=True)
class Hostile:
    """One bad request.

    Args:
        what: The same in words.
        request: Arrays by input name.
        kind: `"shape"`, `"dtype"` (other numbers) or `"text"` (text for
            numbers, or numbers for text): not what the signature says;
            `"rows"`: none; `"value"`: one that no client should send.
    """

    what: str
    request: dict[str, np.ndarray]
    kind: str


def hostile_requests(
    request: dict[str, np.ndarray], shapes: dict[str, tuple | None]
):
    """Yields bad requests, each made of one row of a good one.

    Args:
        request: Arrays `(batch, ...)` by input name, at least one row.
        shapes: The signature's shape of each input, -1 for any size; `None`
            where it allows any rank.

    Yields:
        A `Hostile` for each: one input at a time is of a wrong rank, size or
        dtype, has no rows, or holds values that no client should send.
    """
    row = {name: np.asarray(array)[:1] for name, array in request.items()}
    for name, array in row.items():
        for changed in _misshapen(array, shapes[name]):
            what = f"a request whose `{name}` has shape {changed.shape}"
            yield Hostile(what, {**row, name: changed}, "shape")
        for changed in _mistyped(array):
            is_number = not _is_text(array) and not _is_text(changed)
            what = f"a request whose `{name}` is of {_name(changed)}"
            kind = "dtype" if is_number else "text"
            yield Hostile(what, {**row, name: changed}, kind)
        for value in _extremes(array.dtype):
            changed = array.astype(object if _is_text(array) else array.dtype)
            changed.flat[:1] = value
            what = f"a request with {_short(value)} in its `{name}`"
            yield Hostile(what, {**row, name: changed}, "value")
    empty = {name: array[:0] for name, array in row.items()}
    yield Hostile("a request without rows", empty, "rows")


def _misshapen(array, shape):
    if shape is None:
        return
    wrong = [array[..., None], np.resize(array, ()), np.resize(array, (2,))]
    if array.ndim:
        wrong.append(array[..., 0])
    for axis, size in enumerate(shape):
        if size > 0:
            wrong.append(np.concatenate([array, array], axis=axis))
    for changed in {changed.shape: changed for changed in wrong}.values():
        fits = len(shape) == changed.ndim and all(
            size in (-1, given)
            for size, given in zip(shape, changed.shape, strict=True)
        )
        if not fits:
            yield changed


def _mistyped(array):
    if _is_text(array):
        return [np.zeros(array.shape, "float32")]
    other = "int32" if array.dtype.kind == "f" else "float32"
    return [np.zeros(array.shape, other), np.full(array.shape, b"1")]


def _extremes(dtype):
    if dtype.kind == "f":
        most = np.finfo(dtype).max
        return [np.nan, np.inf, -np.inf, most]
    if dtype.kind in "iu":
        return [np.iinfo(dtype).min, np.iinfo(dtype).max]
    if dtype.kind in "SUO":
        return [b"", b"\xff\xfe\x00", b"x" * HUGE_TEXT]
    return []


def _is_text(array):
    return array.dtype.kind in "SUO"


def _name(array):
    return "text" if _is_text(array) else str(array.dtype)


def _short(value):
    text = repr(value)
    return text if len(text) < 40 else f"{len(value):,} bytes"
