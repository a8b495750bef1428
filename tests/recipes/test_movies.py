# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from keras_kd.recipes import movies


def table():
    """Two people who like movies 0 to 19 in turn, one of them backwards.

    A third has too few likes. Every like is followed by a dislike.
    """
    likes = np.arange(20)
    ids = np.concatenate([likes, likes[::-1], likes[:5]])
    people = np.repeat([7, 3, 5], [20, 20, 5])
    return {
        "userId": np.repeat(people, 2),
        "movieId": np.repeat(ids, 2) + np.tile([0, 100], len(ids)),
        "rating": np.tile([4.0, 1.5], len(ids)),
        "timestamp": np.arange(2 * len(ids)),
    }


def test_time_splits_the_likes_of_each_person():
    # What nobody liked in training is not there: all 20 are, by one of two.
    data = movies.split(table())
    x, y = data.train
    assert x.shape == y.shape == (20, 20) and x.dtype == np.uint8
    assert not (x * y).any()  # nothing liked before is a label
    np.testing.assert_allclose(y.sum(axis=1), 1.0, rtol=1e-6)
    for split, known, count in ((data.validation, 14, 2), (data.test, 16, 4)):
        x, y = split
        # Person 3, who went backwards, is first; person 7 went forwards.
        np.testing.assert_array_equal(x.sum(axis=1), [known, known])
        assert x[1, :known].all() and not x[1, known:].any()
        expected = np.zeros(20)
        expected[known : known + count] = 1 / count
        np.testing.assert_allclose(y[1], expected)
        np.testing.assert_allclose(y[0], expected[::-1])


def test_movies_liked_already_are_left_out_of_the_ranking():
    model = movies.build_student()
    liked = np.zeros((1, movies.MOVIES), "uint8")
    liked[0, [3, 5]] = 1
    scores = np.asarray(model(liked))[0]
    assert (scores[[3, 5]] == np.float32(movies.LEFT_OUT)).all()
    assert (
        np.isfinite(scores).all() and (np.delete(scores, [3, 5]) > -1e3).all()
    )


@pytest.mark.slow
def test_real_ratings_arrive_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))
    data = movies.load_data()
    assert data.train[0].shape[1] == movies.MOVIES
    assert len(data.train[0]) > 6_000
