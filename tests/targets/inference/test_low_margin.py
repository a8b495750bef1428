# SPDX-License-Identifier: Apache-2.0
"""Close decisions are the teacher's own, and only they."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.targets.inference import low_margin
from keras_kd.targets.inference.low_margin import ROWS
from keras_kd.targets.inference.low_margin import LowMargin
from keras_kd.targets.inference.low_margin import allowed
from keras_kd.targets.inference.low_margin import decisions
from keras_kd.targets.inference.low_margin import margin_for
from keras_kd.targets.inference.low_margin import margins


def logits_pair(count=4000, noise=0.3, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    exact = rng.normal(size=(count, classes)) * 3.0
    return exact, exact + noise * rng.normal(size=exact.shape)


def test_decisions_of_yes_no_units_are_their_signs():
    logits = np.array([[1.0, -1.0], [2.0, 3.0]])
    assert decisions(logits).tolist() == [0, 1]
    assert decisions(logits, binary=True).tolist() == [
        [True, False],
        [True, True],
    ]
    assert decisions(np.array([[-1.0], [1.0]])).tolist() == [[False], [True]]


def test_margins_by_hand():
    logits = np.array([[1.0, 4.0, 3.5], [2.0, 2.0, -9.0]])
    np.testing.assert_allclose(margins(logits), [0.5, 0.0])
    np.testing.assert_allclose(margins(logits, binary=True), [1.0, 2.0])
    np.testing.assert_allclose(margins(logits[:, :1]), [1.0, 2.0])
    # Two places of one sample: the closer one counts.
    np.testing.assert_allclose(margins(logits[None]), [0.0])


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("agreement", [0.9, 0.97, 0.995])
def test_margin_for_keeps_what_was_agreed_among_other_samples(
    agreement, binary
):
    kept = []
    for seed in range(20):
        exact, rough = logits_pair(1024, seed=seed)
        margin = margin_for(exact, rough, agreement, binary)
        unseen, rough = logits_pair(20_000, seed=100 + seed)
        again = margins(rough, binary) <= (-1.0 if margin is None else margin)
        got = np.where(again[:, None], unseen, rough)
        same = decisions(got, binary) == decisions(unseen, binary)
        share = same.reshape(len(same), -1).all(axis=1).mean()
        kept.append(share >= agreement)
        assert again.mean() < 0.8  # not by asking about nearly all
    assert sum(kept) >= 19  # 99 % of them, but for chance


def test_margin_for_is_none_where_decisions_are_the_same():
    exact, rough = logits_pair(noise=1e-9)
    assert margin_for(exact, rough, 1.0) is None


@pytest.mark.parametrize("count, agreement", [(4096, 0.995), (2048, 0.99)])
def test_allowed_is_the_largest_number_that_would_be_a_surprise(
    count, agreement
):
    mean = count * (1 - agreement)

    def at_most(number):
        terms = (mean**k / math.factorial(k) for k in range(number + 1))
        return math.exp(-mean) * sum(terms)

    found = allowed(count, agreement)
    assert at_most(found) <= 0.01 < at_most(found + 1)


def test_allowed_at_the_ends():
    assert allowed(100, 1.0) == 0
    assert allowed(100, 0.999) == 0
    assert allowed(2048, 1e-6) == 2048


class Counting:
    """A teacher's call that keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, x):
        self.asked.append(np.asarray(x["a"]))
        return {"output": 10.0 * x["a"], "tap": -x["a"]}


def answer(engine, x):
    ((found, _),) = engine.answers([(x, None)])
    return found


def fast(x):
    return {"output": np.asarray(x["a"]), "tap": np.zeros_like(x["a"])}


def test_teacher_is_asked_about_close_decisions_only():
    own = Counting()
    a = np.array([[0.0, 5.0], [1.0, 1.1], [3.0, 0.0], [2.0, 2.0]], "float32")
    engine = LowMargin(fast, own, 0.2)
    got = answer(engine, {"a": tf.constant(a)})
    np.testing.assert_allclose(got["output"][[0, 2]], a[[0, 2]])
    np.testing.assert_allclose(got["output"][[1, 3]], 10.0 * a[[1, 3]])
    np.testing.assert_allclose(got["tap"][[0, 2]], 0.0)
    np.testing.assert_allclose(got["tap"][[1, 3]], -a[[1, 3]])
    (asked,) = own.asked
    assert len(asked) == ROWS  # one size, however many are close
    np.testing.assert_allclose(asked[:2], a[[1, 3]])
    np.testing.assert_allclose(asked[2:], np.repeat(a[3:], ROWS - 2, 0))


def test_teacher_is_asked_about_several_batches_together(monkeypatch):
    a = np.random.default_rng(0).normal(size=(20, 8, 2)).astype("float32")
    alone = LowMargin(fast, Counting(), 0.5)
    expected = [answer(alone, {"a": x})["output"] for x in a]

    def stream(own):
        numbered = (({"a": x}, number) for number, x in enumerate(a))
        return LowMargin(fast, own, 0.5).answers(numbered)

    own = Counting()
    found = list(stream(own))
    close = int((margins(a.reshape(-1, 2)) <= 0.5).sum())
    assert len(own.asked) == math.ceil(close / ROWS) < 20
    assert [note for _, note in found] == list(range(20))
    np.testing.assert_array_equal([f["output"] for f, _ in found], expected)
    # Not all of a large data set waits: what is held is limited.
    monkeypatch.setattr(low_margin, "HELD", 3 * 8 * 2 * 2 * 4)
    own = Counting()
    few = stream(own)
    next(few)
    assert 0 < sum(map(len, own.asked)) <= ROWS
    np.testing.assert_array_equal([f["output"] for f, _ in few], expected[1:])


def test_teacher_is_asked_nothing_where_all_is_clear():
    own = Counting()
    answer(LowMargin(fast, own, 0.2), {"a": tf.constant([[0.0, 5.0]])})
    assert not own.asked
