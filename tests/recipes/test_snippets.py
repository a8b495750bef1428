# SPDX-License-Identifier: Apache-2.0
"""The loader and both models on made-up sentences; real ones are slow."""

from __future__ import annotations

import io
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources
from keras_kd.recipes import snippets

LINES = [f"{i}\t{(-1.5, 0.25)[i % 2]}\tfilm number {i}" for i in range(60)]
LINES += ["60\t0.0\tneither", "61\t1.0\tfilm number 0", "62\t2.0\ta\ttab "]
CONTENT = "\r\n".join(LINES)


@pytest.fixture
def small_set(monkeypatch):
    files = {snippets.FILE: CONTENT.encode()}
    monkeypatch.setattr(_fetch, "fetch", lambda *_: files)
    monkeypatch.setattr(snippets, "TEST", 20)
    monkeypatch.setattr(snippets, "VALIDATION", 10)


def test_parse_leaves_out_the_neutral_and_the_repeated():
    texts, y = snippets.parse(CONTENT)
    assert texts.tolist() == [f"film number {i}" for i in range(60)] + [
        "a\ttab"
    ]
    assert y.tolist() == [0, 1] * 30 + [1]
    assert y.dtype == "int32"


def test_no_sentence_is_in_two_splits_and_labels_are_hidden(small_set):
    data, full = snippets.load_data(7), snippets.load_data(None)
    splits = [data.train, data.validation, data.test]
    assert [len(x) for x, _ in splits] == [31, 10, 20]
    assert len({text for x, _ in splits for text in x}) == 61
    known = data.train[1] != UNLABELLED
    assert known.sum() == 7
    np.testing.assert_array_equal(data.train[0], full.train[0])
    np.testing.assert_array_equal(data.train[1][known], full.train[1][known])
    of = dict(zip(*snippets.parse(CONTENT), strict=True))
    for x, y in (full.train, data.validation, data.test):
        assert [of[text] for text in x] == y.tolist()


def archive(name, content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def test_file_is_read_from_the_archive_in_the_archive(monkeypatch):
    inner = archive(f"hutto_ICWSM_2014/{snippets.FILE}", b"1\t1.0\tgood")
    folder = "vaderSentiment-3.3.2/additional_resources"
    outer = archive(f"{folder}/hutto_ICWSM_2014.tar.gz", inner)
    monkeypatch.setattr(_sources, "pypi_file", lambda *_: outer)
    assert snippets.from_pypi() == {snippets.FILE: b"1\t1.0\tgood"}


def test_ngrams_are_words_and_pairs_whatever_case_and_marks():
    ngrams = snippets.HashedNgrams()
    texts = ["Good film!", "good, FILM", "film good", "", "w " * 99]
    ids = np.asarray(ngrams(tf.constant(texts)))
    words = snippets.WORDS
    assert ids.shape == (5, 2 * words - 1)
    np.testing.assert_array_equal(ids[0], ids[1])
    assert set(ids[0, :2]) == set(ids[2, :2])
    assert ids[0, words] != ids[2, words]  # the pair has an order
    np.testing.assert_array_equal((ids > 0).sum(axis=1), [3, 3, 3, 0, 95])
    assert ids.max() < snippets.BUCKETS


def test_student_takes_strings_and_pads_for_nothing(tmp_path):
    student = snippets.build_student()
    assert student.output_shape == (None, 2)
    texts = tf.constant(["a good film", "bad"])
    together, alone = student(texts), student(texts[1:])
    np.testing.assert_allclose(together[1:], alone, rtol=1e-6)
    student.save(tmp_path / "student.keras")
    again = keras.saving.load_model(tmp_path / "student.keras")
    np.testing.assert_array_equal(again(texts), together)


class Tokenizer:
    cls_token_id, sep_token_id = 1, 2

    def __call__(self, texts):
        return [[3 + len(word) for word in text.split()] for text in texts]


def test_teacher_reads_each_sentence_once_and_its_padding_never(monkeypatch):
    import keras_hub

    monkeypatch.setattr(_fetch, "fetch", lambda *_: None)
    monkeypatch.setattr(
        keras_hub.models.BertTokenizer, "from_preset", lambda _: Tokenizer()
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=20,
        num_layers=6,
        num_heads=1,
        hidden_dim=4,
        intermediate_dim=4,
        max_sequence_length=64,
    )
    monkeypatch.setattr(
        keras_hub.models.BertBackbone, "from_preset", lambda _: backbone
    )
    embed = snippets.MiniLM()
    long = " ".join(["aa", "b", "cccc"] * 30)  # is cut
    asked = embed(np.array(["aa b", long, "aa b"]))
    assert asked.shape == (3, 16)
    alone = snippets.MiniLM().means(["aa b"])
    np.testing.assert_allclose(asked[[0, 2]], alone[[0, 0]], atol=1e-5)
    monkeypatch.setattr(embed, "means", None)
    np.testing.assert_array_equal(embed(np.array([long])), asked[1:2])


@pytest.mark.slow
def test_real_sentences_are_as_described():
    data = snippets.load_data()
    assert [len(s[0]) for s in (data.train, data.validation, data.test)] == [
        7566,
        1000,
        2000,
    ]
    assert (data.train[1] != UNLABELLED).sum() == 500
    assert 0.45 < data.test[1].mean() < 0.55
