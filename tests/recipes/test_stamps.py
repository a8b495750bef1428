# SPDX-License-Identifier: Apache-2.0
"""Pictures, maps and boxes of made-up stamps; real ones in a slow test."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import _stamps_boxes
from keras_kd.recipes import _stamps_data
from keras_kd.recipes import stamps


def png(colour, is_photo=True):
    """A disc of one colour, or of many shades of it."""
    y, x = np.mgrid[:40, :40]
    inside = (y - 20) ** 2 + (x - 20) ** 2 < 15**2
    shades = np.random.default_rng(0).integers(0, 64, (40, 40, 3))
    pixels = np.asarray(colour) // 2 + shades * is_photo
    file = io.BytesIO()
    Image.fromarray(np.dstack([pixels, 255 * inside]).astype("uint8")).save(
        file, "PNG"
    )
    return file.getvalue()


COLOURS = {
    "animals": (255, 0, 0),
    "food": (0, 255, 0),
    "plants/flowers": (0, 0, 255),
    "town": (255, 255, 255),
}


@pytest.fixture
def made_up(monkeypatch):
    photos = {
        f"{folder}/{number}.png": png(colour)
        for folder, colour in COLOURS.items()
        for number in range(5)
    }
    files = {stamps.FILE: _sources.archive_of(photos)}
    monkeypatch.setattr(_fetch, "fetch", lambda *_: files)
    monkeypatch.setattr(
        stamps, "background", lambda: np.full((200, 640, 3), 40, "uint8")
    )
    monkeypatch.setattr(stamps, "TRAIN", 12)
    monkeypatch.setattr(stamps, "OTHERS", 6)
    return photos


def test_pictures_of_three_splits_and_hidden_labels(made_up):
    data, full = stamps.load_data(3), stamps.load_teacher_data()
    sizes = [len(x) for x, _ in (data.train, data.validation, data.test)]
    assert sizes == [12, 6, 6]
    x, labels = data.train
    assert x.shape == (12, 64, 64, 3) and x.dtype == np.float32
    assert 0 <= x.min() and x.max() <= 1
    assert labels["heat"].shape == (12, 16, 16, 3)
    assert labels["sides"].shape == (12, 16, 16, 4)
    for name, maps in labels.items():
        assert (maps[3:] == UNLABELLED).all()
        np.testing.assert_array_equal(maps[:3], full.train[1][name][:3])
        assert full.train[1][name].min() >= 0
    np.testing.assert_array_equal(x, full.train[0])


def test_boxes_are_tight_around_their_kind_and_others_have_none(made_up):
    x, labels = stamps.load_teacher_data().train
    found = _stamps_boxes.true_boxes_in(labels)
    count = 0
    for picture, boxes, kinds in zip(
        x, found["boxes"], found["classes"], strict=True
    ):
        for box, kind in zip(boxes, kinds, strict=True):
            if kind == UNLABELLED:
                continue
            count += 1
            left, top, right, bottom = np.round(box).astype(int)
            centre = picture[(top + bottom) // 2, (left + right) // 2]
            assert centre.argmax() == kind
            assert 10 <= right - left <= 36 and 10 <= bottom - top <= 36
    assert count > 5


def test_maps_lead_back_to_their_boxes():
    boxes = np.zeros((2, 4, 4), "float32")
    kinds = np.full((2, 4), UNLABELLED)
    boxes[0, :2] = [[3, 5, 25, 20], [36, 30, 60, 63]]
    kinds[0, :2] = [2, 0]
    maps = _stamps_boxes.maps_of(boxes, kinds, 3)
    truth = _stamps_boxes.true_boxes_in(maps)
    order = np.argsort(-truth["classes"][0])
    np.testing.assert_array_equal(truth["classes"][0][order], [2, 0])
    np.testing.assert_allclose(truth["boxes"][0][order], boxes[0, :2])
    assert (truth["classes"][1] == UNLABELLED).all()
    # A perfect answer has the same boxes first.
    logits = np.where(maps["heat"] == 1, 4.0, -8.0)
    answer = {"heat": logits, "sides": maps["sides"]}
    found = _stamps_boxes.boxes_in(answer)
    assert (found["classes"][0] >= 0).sum() == 2
    order = np.argsort(-found["classes"][0])[:2]
    np.testing.assert_allclose(found["boxes"][0][order], boxes[0, :2])
    meter = stamps.settings["task"].meter()
    meter.update(answer, maps)
    assert meter.result()["ap"] == pytest.approx(1.0)


def test_error_of_sides_is_of_places_in_a_thing():
    labels = np.zeros((1, 1, 3, 4), "float32")
    labels[0, 0, 1] = 2.0
    labels[0, 0, 2] = UNLABELLED
    error = stamps.error_of_sides(labels, np.ones((1, 1, 3, 4), "float32"))
    np.testing.assert_array_equal(error, [[[0.0, 1.0, 0.0]]])


def test_only_photos_of_known_folders_are_taken(tmp_path, monkeypatch):
    for name, content in {
        "animals/birds/a.png": png((255, 0, 0)),
        "animals/birds/drawn.png": png((255, 0, 0), is_photo=False),
        "animals/cartoon/b.png": png((255, 0, 0)),
        "symbols/c.png": png((255, 0, 0)),
    }.items():
        path = tmp_path / "usr/share/tuxpaint/stamps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.setattr(
        _sources, "debian_package", lambda _: contextlib.nullcontext(tmp_path)
    )
    photos = _sources.files_of(stamps.from_debian()[stamps.FILE])
    assert list(photos) == ["animals/birds/a.png"]
    (stamp,) = _stamps_data.stamps_in(photos)
    assert stamp.kind == 0 and stamp.image.mode == "RGBA"
    assert max(stamp.image.size) <= 2 * _stamps_data.LARGEST


@pytest.mark.slow
def test_real_stamps_are_as_described():
    data = stamps.load_data()
    sizes = [len(x) for x, _ in (data.train, data.validation, data.test)]
    assert sizes == [2000, 400, 400]
    things = (data.test[1]["heat"] == 1).sum(axis=(0, 1, 2))
    assert things.min() > 100  # of each kind
