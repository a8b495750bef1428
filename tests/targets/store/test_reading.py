# SPDX-License-Identifier: Apache-2.0
"""Rows are read from whatever shards they are in, however many there are."""

from __future__ import annotations

import time

import numpy as np

from keras_kd.targets.store.reading import read_rows

SIZE = 100


class Held:
    """A shard in memory whose values are the numbers of its rows."""

    def __init__(self, number):
        numbers = np.arange(SIZE, dtype="float32") + SIZE * number
        self.values = numbers[:, None, None]
        self.record = {"files": ["tap0.values.npy"]}

    def __len__(self):
        return SIZE

    def read(self, field):
        assert field == "tap0.values"
        return self.values


def test_rows_come_in_the_order_in_which_they_are_asked_for():
    shards = [Held(number) for number in range(4000)]
    rows = np.random.default_rng(0).permutation(SIZE * len(shards))
    began = time.process_time()
    found = read_rows(shards, ["output"], rows)["output"]["values"]
    # Seconds where all rows are looked through for each shard.
    assert time.process_time() - began < 0.8
    np.testing.assert_array_equal(found[:, 0], rows)
    few = read_rows(shards, ["output"], [7, 399_999, 7])["output"]["values"]
    assert few.tolist() == [[7.0], [399_999.0], [7.0]]
    assert len(read_rows(shards, ["output"], [])["output"]["values"]) == 0
