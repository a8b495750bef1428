# SPDX-License-Identifier: Apache-2.0
"""Similarity-preserving: the whole table, and what it does not see."""

from __future__ import annotations

import numpy as np

from keras_kd.losses import SimilarityPreserving
from keras_kd.losses import similarity_preserving

RNG = np.random.default_rng(0)
TEACHER = RNG.normal(size=(6, 5)).astype("float32")
STUDENT = RNG.normal(size=(6, 3)).astype("float32")


def test_loss_is_the_squared_frobenius_norm_by_batch_squared():
    tables = []
    for features in (TEACHER, STUDENT):
        table = features @ features.T
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        tables.append(table / lengths)
    expected = np.linalg.norm(tables[0] - tables[1], "fro") ** 2 / 6**2
    loss = SimilarityPreserving()(TEACHER, STUDENT)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_rotation_and_scale_change_nothing():
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    values = similarity_preserving(TEACHER, 7.0 * TEACHER @ rotation)
    np.testing.assert_allclose(values, np.zeros(6), atol=1e-10)


def test_table_by_hand():
    """Rows (1, 0) against (1, 1) / sqrt(2)."""
    values = similarity_preserving([[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]])
    np.testing.assert_allclose(values, [1.0 - 0.5**0.5] * 2, rtol=1e-6)


def test_weight_is_the_papers():
    assert SimilarityPreserving().weight == 3000.0
