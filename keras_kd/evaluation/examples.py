# SPDX-License-Identifier: Apache-2.0
"""Examples: a few inputs as small pictures, or as text, to look at."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

PIXELS = 96
VALUES = 8
LETTERS = 160


def as_images(inputs: Any) -> np.ndarray | None:
    """Returns inputs as small pictures, if that is what they are.

    Args:
        inputs: An array, or a dict of arrays, one of which may be images:
            `(n, height, width, 1 or 3)`, or square `(n, height, width)`.

    Returns:
        `(n, height, width, 3)` as uint8, thinned out to 96 pixels a side at
        most; or `None`. Floats are scaled from their range to 0...255.
    """
    arrays = inputs.values() if isinstance(inputs, dict) else [inputs]
    found = [np.asarray(array) for array in arrays if _is_image(array)]
    if len(found) != 1:
        return None
    (images,) = found
    if images.ndim == 3:
        images = images[..., None]
    step = -(-max(images.shape[1:3]) // PIXELS)
    images = images[:, ::step, ::step]
    if images.dtype != np.uint8:
        images = np.nan_to_num(images.astype(np.float64))
        low, high = (images.min(), images.max()) if images.size else (0, 1)
        images = 255 * (images - low) / (high - low or 1)
        images = images.round().astype(np.uint8)
    return np.repeat(images, 3, -1) if images.shape[-1] == 1 else images


def as_texts(inputs: Any) -> tuple[list[str], list[list[str]]]:
    """Returns the first values of inputs as text.

    Args:
        inputs: An array, or a dict of arrays.

    Returns:
        `(columns, rows)`: a column per input, one list of cells per example.
    """
    named = inputs if isinstance(inputs, dict) else {"input": inputs}
    cells = [[_text(row) for row in array] for array in named.values()]
    return list(named), [list(row) for row in zip(*cells, strict=True)]


def png_of(image: np.ndarray) -> bytes:
    """Returns one picture `(height, width, 3)` as the bytes of a PNG."""
    from matplotlib import image as images

    buffer = io.BytesIO()
    images.imsave(buffer, image, format="png")
    return buffer.getvalue()


def _is_image(array):
    array = np.asarray(array)
    if array.dtype.kind not in "uif" or min(array.shape[1:3], default=0) < 4:
        return False
    if array.ndim == 4:
        return array.shape[-1] in (1, 3)
    return array.ndim == 3 and array.shape[1] == array.shape[2]


def _text(row):
    values = np.asarray(row).ravel()
    if values.dtype.kind in "OSU":
        words = [
            value.decode("utf-8", "replace")
            if isinstance(value, bytes)
            else str(value)
            for value in values[:VALUES]
        ]
        return " ".join(words)[:LETTERS]
    more = ", …" if len(values) > VALUES else ""
    return ", ".join(f"{value:.4g}" for value in values[:VALUES]) + more
