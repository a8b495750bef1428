# SPDX-License-Identifier: Apache-2.0
"""Fingerprints tell samples apart, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.targets.hashing.fingerprint import fingerprints

IMAGES = np.random.default_rng(0).integers(0, 255, (8, 5, 4)).astype("uint8")


def of(x):
    return fingerprints(tf.nest.map_structure(tf.constant, x)).numpy()


def test_fingerprint_is_pinned():
    """Caches on disk are found by these numbers: they may never change."""
    x = np.arange(6, dtype="float32").reshape(2, 3)
    assert of(x).tolist() == [14144029031495902856, 10870252063798468057]
    nested = {"a": x, "b": (np.array(["one", "two"]),)}
    assert of(nested).tolist() == [17295519989277908439, 14322662256794166706]


def test_fingerprint_does_not_depend_on_place_or_batch():
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_array_equal(of(IMAGES[order]), of(IMAGES)[order])
    np.testing.assert_array_equal(of(IMAGES[3:4]), of(IMAGES)[3:4])


def test_fingerprint_changes_with_any_byte():
    sample = IMAGES[:1]
    found = {int(of(sample)[0])}
    for index in np.ndindex(*sample.shape):
        changed = sample.copy()
        changed[index] ^= 1
        found.add(int(of(changed)[0]))
    assert len(found) == sample.size + 1


@pytest.mark.parametrize(
    "other",
    [
        IMAGES.astype("int8"),  # the same bytes where values are small
        IMAGES.astype("float32"),
        IMAGES.reshape(8, 4, 5),
        IMAGES.reshape(8, 20),
        {"image": IMAGES},
    ],
)
def test_fingerprint_counts_dtype_shape_and_name(other):
    x = IMAGES % 100
    other = tf.nest.map_structure(lambda a: a % 100, other)
    assert not set(of(x)) & set(of(other))


def test_fingerprint_counts_which_input_holds_what():
    one, two = IMAGES, IMAGES[::-1].copy()
    found = [{"a": one, "b": two}, {"a": two, "b": one}, (one, two)]
    assert len({tuple(of(x)) for x in found}) == 3
    # The order in which a dict was filled does not count.
    np.testing.assert_array_equal(
        of({"b": two, "a": one}), of({"a": one, "b": two})
    )


def test_fingerprint_is_the_same_in_a_graph_without_static_shapes():
    @tf.function(input_signature=[tf.TensorSpec((None, None, None), tf.uint8)])
    def unknown(x):
        return fingerprints(x)

    mapped = tf.data.Dataset.from_tensor_slices(IMAGES).batch(3)
    mapped = np.concatenate(list(mapped.map(fingerprints).as_numpy_iterator()))
    np.testing.assert_array_equal(unknown(IMAGES).numpy(), of(IMAGES))
    np.testing.assert_array_equal(mapped, of(IMAGES))


def test_fingerprints_of_many_samples_differ():
    x = np.arange(100_000, dtype="int32")
    assert len(np.unique(of(x))) == len(x)


def test_ragged_sample_is_refused():
    with pytest.raises(ValueError, match="RaggedTensor.*to_tensor"):
        fingerprints(tf.ragged.constant([[1], [2, 3]]))
