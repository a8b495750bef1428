# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from keras_kd.data.splits import UNLABELLED
from keras_kd.recipes import watch


def recordings():
    """One recording a person; each number of it says whose it is."""
    people = np.arange(1, 11)
    return {
        "X": [np.full((230 + p, 6), p, "float64") for p in people],
        "y": people % 7,
        "subject": people,
        "y_labels": list("ABCDEFG"),
    }


def stored(content):
    file = io.BytesIO()
    np.save(file, np.array(content, dtype=object), allow_pickle=True)
    return file.getvalue()


def test_nobody_is_in_two_splits_and_one_person_has_labels():
    data = watch.split(recordings(), labelled=(1,))
    splits = (data.train, data.validation, data.test)
    people = [set(np.unique(x).astype(int)) for x, _ in splits]
    assert people == [{1, 2, 3, 4, 5}, {6, 7}, {8, 9, 10}]
    x, y = data.train
    assert x.shape == (15, 100, 6) and x.dtype == "float32"
    assert y.tolist() == [1] * 3 + [UNLABELLED] * 12
    assert data.test[1].tolist() == [1] * 3 + [2] * 3 + [3] * 3
    every = watch.split(recordings(), labelled=None).train[1]
    assert every.tolist() == np.repeat([1, 2, 3, 4, 5], 3).tolist()


def test_windows_are_consecutive_and_overlap_by_half():
    signal = np.arange(250.0)[:, np.newaxis] + np.arange(6)
    found = watch.windows(signal)
    assert found.shape == (4, 100, 6)
    for number, window in enumerate(found):
        start = 50 * number
        np.testing.assert_array_equal(window, signal[start : start + 100])


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_a_pickle_of_more_than_arrays_is_refused():
    with pytest.raises(ValueError, match="wants builtins.exec"):
        watch.OnlyArrays(io.BytesIO(pickle.dumps(Harmful()))).load()
    content = stored({})
    with pytest.raises(ValueError, match=r"1.0. Received: \(2, 0\)"):
        watch.read(content[:6] + b"\x02" + content[7:])


def test_a_dict_of_arrays_is_read(monkeypatch):
    # NumPy has moved its function since the real file was made.
    (made,) = (v for k, v in watch.OnlyArrays.allowed.items() if "_rec" in k[1])
    here = {(made.__module__, "_reconstruct"): made}
    allowed = {**watch.OnlyArrays.allowed, **here}
    monkeypatch.setattr(watch.OnlyArrays, "allowed", allowed)
    found = watch.read(stored(recordings()))
    np.testing.assert_array_equal(found["X"][2], np.full((233, 6), 3.0))
    assert found["y_labels"] == list("ABCDEFG")


@pytest.mark.slow
def test_real_recordings_arrive_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    data = watch.load_data()
    splits = (data.train, data.validation, data.test)
    assert sum(len(y) for _, y in splits) == 4677
    assert np.isfinite(data.train[0]).all()
    assert len(data.class_names) == 7
    for _, y in splits:
        assert set(range(7)) <= set(y)
