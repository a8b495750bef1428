# SPDX-License-Identifier: Apache-2.0
"""Boxes of the recipe stamps as maps: what is learned, and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes._stamps_data import SIZE

STRIDE = 4  # pixels from one place to the next
PLACES = SIZE // STRIDE
UNIT = 8.0  # pixels: sides are told in it
MOST_FOUND = 12
Maps = dict[str, np.ndarray]


def boxes_in(outputs: Any) -> Maps:
    """Returns boxes, scores and classes of a batch of outputs, as NumPy.

    A place is the middle of a thing if its heat is the most of the nine around
    it; the twelve hottest are kept.
    """
    logits, sides = np.asarray(outputs["heat"]), np.asarray(outputs["sides"])
    heat = 1.0 / (1.0 + np.exp(-logits.astype("float64")))
    padded = np.pad(heat, ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    peaks = np.where(heat == around.max(axis=(-2, -1)), heat, 0.0)
    flat = peaks.reshape(len(peaks), -1)
    chosen = np.argsort(-flat, axis=1)[:, :MOST_FOUND]
    place, kind = np.divmod(chosen, heat.shape[-1])
    rows = np.arange(len(flat))[:, None]
    scores = flat[rows, chosen]
    boxes = box_at(place, sides.reshape(len(flat), -1, 4)[rows, place])
    kind = np.where(scores > 0.02, kind, UNLABELLED)
    return {"boxes": boxes, "scores": scores, "classes": kind}


def true_boxes_in(labels: Any) -> Maps:
    """Returns boxes and classes of a batch of labels."""
    heat, sides = np.asarray(labels["heat"]), np.asarray(labels["sides"])
    middles = heat == 1.0
    count = max(int(middles.sum(axis=(1, 2, 3)).max()), 1)
    boxes = np.zeros((len(heat), count, 4))
    kinds = np.full((len(heat), count), UNLABELLED)
    for row, found in enumerate(middles):
        y, x, kind = np.nonzero(found)
        boxes[row, : len(y)] = box_at(y * PLACES + x, sides[row, y, x])
        kinds[row, : len(y)] = kind
    return {"boxes": boxes, "classes": kinds}


def box_at(place: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Returns boxes in pixels, from places and the distances of sides."""
    y, x = np.divmod(place, PLACES)
    middle = STRIDE * (np.stack([x, y, x, y], axis=-1) + 0.5)
    return middle + UNIT * np.asarray([-1, -1, 1, 1]) * sides


def maps_of(boxes: np.ndarray, kinds: np.ndarray, count: int) -> Maps:
    """Returns the maps that are learned from boxes in pixels."""
    shape = (len(boxes), PLACES, PLACES)
    heat = np.zeros((*shape, count), "float32")
    sides = np.zeros((*shape, 4), "float32")
    at = STRIDE * (np.arange(PLACES) + 0.5)
    for row, number in zip(*np.nonzero(kinds >= 0), strict=True):
        box, kind = boxes[row, number], kinds[row, number]
        left, top, right, bottom = box
        middle = ((box[:2] + box[2:]) / 2 // STRIDE).astype(int)
        x, y = np.minimum(middle, PLACES - 1)
        spread = max(right - left, bottom - top) / 6
        near = np.exp(
            -((at[:, None] - at[y]) ** 2 + (at - at[x]) ** 2) / (2 * spread**2)
        )
        known = heat[row, ..., kind]
        np.maximum(known, np.where(near > 0.1, near, 0), out=known)
        inside = near > 0.5
        across = np.broadcast_to(at, inside.shape)[inside]
        down = np.broadcast_to(at[:, None], inside.shape)[inside]
        far = [across - left, down - top, right - across, bottom - down]
        sides[row, inside] = np.maximum(np.stack(far, axis=-1) / UNIT, 0.01)
    return {"heat": heat, "sides": sides}
