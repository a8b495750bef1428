# SPDX-License-Identifier: Apache-2.0
"""Whatever the data, their order and the interruption: each target is its
sample's own, or there is an error."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from unittest import mock

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import keras_kd as kd


class Killed(BaseException):
    """Stops a build as a kill would: no handler of errors sees it."""


def teacher():
    """Answers with a code of the sample itself, so that any mix-up shows."""
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(4, use_bias=False)]
    )
    model.set_weights([np.array([[1, 0, -2, 0], [0, 1, 0, -2]], "float32")])
    return model


SAMPLES = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=24
)


def killed_at(call, count):
    """Lets the `count`-th rename fail; all before it happen."""
    real, left = os.rename, [count]

    def rename(*args):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        real(*args)

    with mock.patch.object(os, "rename", rename):
        try:
            call()
        except Killed:
            return True
    return False


DRAWN = hypothesis.given(
    samples=SAMPLES,
    order=st.randoms(use_true_random=False),
    shard=st.integers(1, 7),
    kills=st.lists(st.integers(1, 5), max_size=2),
    damage=st.booleans(),
)


def settings(count):
    """So many examples, the same each time; none is made smaller."""
    return hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
    )


@settings(5)
@DRAWN
def test_target_never_meets_another_sample(**drawn):
    check(**drawn)


@pytest.mark.faults
@settings(60)
@DRAWN
def test_target_never_meets_another_sample_of_many(**drawn):
    check(**drawn)


def check(samples, order, shard, kills, damage):
    """Builds a cache, interrupted, and compares what it attaches."""
    x, asked = np.array(samples, "float32"), teacher()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="keras_kd-test-"))
    try:

        def build():
            cache = kd.TeacherCache(folder, dtype="float32", shard_size=shard)
            return cache.build(asked, (x,), verbose=0, batch_size=4)

        for count in kills:
            killed_at(build, count)
        shards = sorted(folder.glob("shards/[0-9]*/tap0.values.npy"))
        if damage and shards:
            at = order.choice(shards)
            os.truncate(at, at.stat().st_size - 1)
        cache = build()
        seen = [order.randrange(len(x)) for _ in range(len(x) + 3)]
        found = cache.attach((x[seen],), batch_size=5)
        for element in found:
            given = element[0]
            inputs = np.asarray(given["inputs"])
            (output,) = tf.nest.flatten(given["teacher_targets"]["output"])
            targets = np.asarray(output)
            np.testing.assert_array_equal(targets[:, :2], inputs)
            np.testing.assert_array_equal(targets[:, 2:], -2 * inputs)
    finally:
        shutil.rmtree(folder)
