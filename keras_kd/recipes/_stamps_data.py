# SPDX-License-Identifier: Apache-2.0
"""Pictures of the recipe stamps: cut-out photos pasted onto another photo."""

from __future__ import annotations

import io
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image  # comes with matplotlib

KINDS = {"animals": 0, "food": 1, "plants/flowers": 2}
"""Folders of what is to be found."""
OTHERS = ("hobbies", "household", "sports", "town", "vehicles")
"""Folders of what is there to mislead."""
SIZE = 64  # pixels of a picture
SMALLEST, LARGEST = 14, 34  # pixels of a stamp's longer side
MOST = 4  # things in a picture
OVERLAP = 0.15  # share of the smaller box that another may cover
OTHER = -1


class Stamp(NamedTuple):
    """A cut-out photo: its kind, and its colours with opacity, uint8."""

    kind: int
    image: Image.Image


def photos_in(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns the files of a folder that are cut-out photos, by their paths."""
    return {
        name: path.read_bytes()
        for path in folder.glob("*/**/*.png")
        for name in [path.relative_to(folder).as_posix()]
        if name.startswith((*KINDS, *OTHERS)) and "cartoon" not in name
        if is_photo(path)
    }


def is_photo(path: pathlib.Path) -> bool:
    """Whether a picture is cut out, and has the many colours of a photo."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    shown = pixels[..., 3] > 127
    edge = np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]])
    colours = np.unique(pixels[shown][:, :3] // 8, axis=0)
    return shown.mean() > 0.15 and edge.mean() < 0.5 and len(colours) > 200


def stamps_in(photos: dict[str, bytes]) -> list[Stamp]:
    """Returns the stamps of files, by their paths."""
    found = []
    for name, content in photos.items():
        whole = Image.open(io.BytesIO(content)).convert("RGBA")
        cut = whole.crop(whole.getchannel("A").getbbox())
        cut.thumbnail((2 * LARGEST, 2 * LARGEST))
        found.append(Stamp(kind_of(name), cut))
    return found


def kind_of(name: str) -> int:
    """Returns the kind of a stamp by the path of its file."""
    found = [k for folder, k in KINDS.items() if name.startswith(folder)]
    return found[0] if found else OTHER


def pictures(
    stamps: list[Stamp], background: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pictures, their boxes and the kinds of these.

    Args:
        stamps: What may be pasted.
        background: A photo to cut pieces from, `(height, width, 3)`, uint8.
        count: How many pictures.
        seed: Of all that is drawn by lot.

    Returns:
        Pictures `(count, 64, 64, 3)`, uint8; boxes `(count, 4, 4)` as left,
        top, right and bottom in pixels; kinds `(count, 4)`, -1 for no box.
    """
    random = np.random.default_rng(seed)
    by_kind = [[s for s in stamps if s.kind == kind] for kind in range(-1, 3)]
    x = np.zeros((count, SIZE, SIZE, 3), "uint8")
    boxes = np.zeros((count, MOST, 4), "float32")
    kinds = np.full((count, MOST), -1, "int32")
    for row in range(count):
        picture = piece_of(background, random)
        taken: list[tuple[int, int, int, int]] = []
        for _ in range(random.integers(1, MOST + 1)):
            of_kind = by_kind[random.integers(len(by_kind))]
            stamp = of_kind[random.integers(len(of_kind))]
            cut = varied(stamp.image, random)
            left, top = random.integers(0, SIZE - np.array(cut.size) + 1)
            box = (left, top, left + cut.width, top + cut.height)
            if any(overlap(box, other) > OVERLAP for other in taken):
                continue
            picture.paste(cut, (int(left), int(top)), cut)
            if stamp.kind != OTHER:
                place = (kinds[row] >= 0).sum()
                boxes[row, place], kinds[row, place] = box, stamp.kind
            taken.append(box)
        x[row] = np.asarray(picture)
    return x, boxes, kinds


def piece_of(
    background: np.ndarray, random: np.random.Generator
) -> Image.Image:
    """Returns a square of a photo, scaled to a picture and tinted."""
    side = int(random.integers(SIZE, 3 * SIZE))
    top = random.integers(background.shape[0] - side + 1)
    left = random.integers(background.shape[1] - side + 1)
    square = background[top : top + side, left : left + side]
    tinted = square * random.uniform(0.5, 1.2, 3) + random.uniform(-20, 60)
    whole = Image.fromarray(tinted.clip(0, 255).astype("uint8"))
    return whole.resize((SIZE, SIZE), Image.Resampling.BOX)


def varied(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Returns a stamp in another size, perhaps mirrored, cut to its box."""
    longer = random.integers(SMALLEST, LARGEST + 1)
    scale = longer / max(image.size)
    size = [max(round(side * scale), 4) for side in image.size]
    image = image.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    opaque = image.getchannel("A").point(lambda a: 255 * (a > 64))
    return image.crop(opaque.getbbox())


def overlap(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> float:
    """Returns the share of the smaller of two boxes that both have."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return max(width, 0) * max(height, 0) / min(areas)
