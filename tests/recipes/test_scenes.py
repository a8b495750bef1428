# SPDX-License-Identifier: Apache-2.0
"""Scenes of made-up things; the real ones in a slow test."""

from __future__ import annotations

import contextlib
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import _stamps_data
from keras_kd.recipes import scenes


def png():
    shades = np.random.default_rng(0).integers(0, 256, (30, 30, 4))
    shades[..., 3] = 255 * (np.abs(np.mgrid[:30, :30] - 15).max(axis=0) < 12)
    file = io.BytesIO()
    Image.fromarray(shades.astype("uint8")).save(file, "PNG")
    return file.getvalue()


def names(thing):
    languages = [language for part in scenes.LANGUAGES for language in part]
    lines = [f"{each}.utf8={each}: {thing}" for each in languages]
    return "\n".join(["A thing in English.", *lines]).encode()


THINGS = [f"{top or 'town'}/thing" for top in scenes.KINDS]


@pytest.fixture
def made_up(monkeypatch):
    files = {f"{path}.png": png() for path in THINGS}
    files |= {f"{path}.txt": names(path.split("/")[-2]) for path in THINGS}
    files = {scenes.FILE: _sources.archive_of(files)}
    monkeypatch.setattr(_fetch, "fetch", lambda *_: files)
    photo = np.zeros((200, 200, 3), "uint8")
    monkeypatch.setattr(scenes, "background", lambda: photo)
    monkeypatch.setattr(scenes, "TRAIN", 24)
    monkeypatch.setattr(scenes, "OTHERS", 12)


def text_of(numbers):
    return "".join(
        " " if n == 1 else chr(n - 2 + ord("a")) for n in numbers if n
    )


def test_scenes_are_of_all_kinds_and_named_in_languages_of_their_split(
    made_up,
):
    data, full = scenes.load_data(5), scenes.load_data(None)
    splits = (data.train, data.validation, data.test)
    for (x, _), languages, count in zip(
        splits, scenes.LANGUAGES, (24, 12, 12), strict=True
    ):
        assert x["picture"].shape == (count, 32, 32, 3)
        assert 0 <= x["picture"].min() and x["picture"].max() <= 1
        assert x["picture"].dtype == np.float32 and x["name"].dtype == np.int32
        read = {text_of(row).split()[0] for row in x["name"]}
        assert read <= {language[:2].lower() for language in languages}
    y = data.train[1]
    assert (y[:5] >= 0).all() and (y[5:] == UNLABELLED).all()
    np.testing.assert_array_equal(y[:5], full.train[1][:5])
    assert np.bincount(full.train[1]).tolist() == [4] * 6
    for row, kind in zip(full.train[0]["name"], full.train[1], strict=True):
        assert THINGS[kind].split("/")[-2] in text_of(row)


def test_letters_are_without_accents_and_padded():
    numbers = scenes.letters_of("Ein Bär!")
    assert numbers.shape == (scenes.LETTERS,)
    assert text_of(numbers) == "ein bar "
    assert len(text_of(scenes.letters_of("a" * 99))) == scenes.LETTERS


def test_photos_come_with_their_names(tmp_path, monkeypatch):
    top = tmp_path / "usr/share/tuxpaint/stamps"
    for path in ("food/fruit/pear", "food/fruit/nameless"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).with_suffix(".png").write_bytes(png())
    (top / "food/fruit/pear.txt").write_bytes(names("pear"))
    monkeypatch.setattr(
        _sources, "debian_package", lambda _: contextlib.nullcontext(tmp_path)
    )
    monkeypatch.setattr(_stamps_data, "is_photo", lambda _: True)
    files = _sources.files_of(scenes.from_debian()[scenes.FILE])
    assert list(files) == ["food/fruit/pear.png", "food/fruit/pear.txt"]
    assert scenes.names_in(files["food/fruit/pear.txt"])["nb"] == "nb: pear"
    assert scenes.kind_of("food/fruit/pear.png") == 3


@pytest.mark.slow
def test_teachers_of_a_part_each_answer_for_scenes(made_up, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)
    teacher = scenes.load_teacher()
    inputs = [set(model.input) for model in teacher.models]
    assert inputs == [{"picture"}, {"name"}]


@pytest.mark.slow
def test_real_scenes_are_as_described():
    data = scenes.load_data()
    splits = (data.train, data.validation, data.test)
    assert [len(y) for _, y in splits] == [4000, 800, 800]
    assert (data.train[1] >= 0).sum() == 200
