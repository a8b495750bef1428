# SPDX-License-Identifier: Apache-2.0
"""The loader on a made-up dictionary; the real one in a slow test."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np
import pytest

PATH = pathlib.Path(__file__).parents[2] / "benchmarks" / "_pronunciation.py"
SPEC = importlib.util.spec_from_file_location("_pronunciation", PATH)
task = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(task)

TEXT = """\
'em AH0 M
a AH0
cat K AE1 T # an animal
read R EH1 D
read(2) R IY1 D
read(3) R IY2 D
incomprehensibly IH2 N K AA2 M P R AH0 HH EH1 N S AH0 B L IY0
"""


def test_parse_keeps_short_words_and_drops_stress():
    assert task.parse(TEXT) == {
        "cat": [("K", "AE", "T")],
        "read": [("R", "EH", "D"), ("R", "IY", "D")],
    }


def test_encode_gives_letters_and_the_first_pronunciation():
    dictionary = task.parse(TEXT)
    (letters, so_far), target = task.encode(["cat", "read"], dictionary)
    assert letters.shape == (2, task.LETTERS)
    assert letters[0, :4].tolist() == [3, 1, 20, 0]
    written = [task.SYMBOLS[i] for i in target[1, :5]]
    assert written == ["R", "EH", "D", "<end>", ""]
    assert so_far[1, :5].tolist() == [task.START, *target[1, :3], 0]


def ids(*words):
    return np.stack([one_word(word) for word in words])


def one_word(word):
    found = np.zeros(6, "int32")
    answer = [*map(task.SYMBOLS.index, word.split()), task.END]
    found[: len(answer)] = answer
    return found


def test_error_rates_count_edits_to_the_nearest_variant():
    accepted = task.all_variants(["cat", "read"], task.parse(TEXT))
    rates = task.error_rates(ids("K AE T", "R IY D"), accepted)
    assert rates == {"word_error_rate": 0.0, "phoneme_error_rate": 0.0}
    # One substitution and one deletion; an insertion.
    rates = task.error_rates(ids("K AH", "R IY D Z"), accepted)
    assert rates["word_error_rate"] == 1.0
    assert rates["phoneme_error_rate"] == pytest.approx(3 / 6)
    rates = task.error_rates(ids("", "R IY D"), accepted)
    assert rates["word_error_rate"] == 0.5
    assert rates["phoneme_error_rate"] == pytest.approx(3 / 6)


@pytest.mark.slow
def test_real_dictionary_gives_disjoint_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    data, accepted = task.load_data(1000)
    splits = (data.train, data.validation, data.test)
    assert [len(y) for _, y in splits] == [1000, 2000, 2000]
    assert accepted.shape[::2] == (2000, task.SOUNDS + 1)
    words = {row.tobytes() for x, _ in splits for row in x[0]}
    assert len(words) == 5000
    rates = task.error_rates(data.test[1], accepted)
    assert rates == {"word_error_rate": 0.0, "phoneme_error_rate": 0.0}
    again = task.load_data(1000)[0]
    np.testing.assert_array_equal(again.train[0][0], data.train[0][0])
