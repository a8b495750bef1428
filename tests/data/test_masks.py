# SPDX-License-Identifier: Apache-2.0
"""What Keras masks does not count, in whatever is judged."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.data.masks import with_labels_of
from keras_kd.data.masks import with_masked
from keras_kd.data.masks import with_masks

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(1, 9, (12, 6)).astype("int32")
TOKENS[:, 4:] = 0
TOKENS[3:, 2:] = 0
NEXT = RNG.integers(0, 9, (12, 6))
COUNTS = (TOKENS > 0).astype("float32")


def model(named=False):
    inputs = keras.Input((6,), dtype="int32")
    hidden = layers.Embedding(9, 4, mask_zero=True)(inputs)
    scores = layers.Dense(9, name="word")(hidden)
    if not named:
        return keras.Model(inputs, scores)
    mean = layers.GlobalAveragePooling1D()(hidden)
    length = layers.Dense(1, name="length")(mean)
    return keras.Model(inputs, {"word": scores, "length": length})


@pytest.fixture(params=["arrays", "data set"])
def form(request):
    """Makes a split of parts."""
    if request.param == "arrays":
        return lambda *parts: parts
    slices = tf.data.Dataset.from_tensor_slices
    return lambda *parts: slices(parts).batch(5)


def weights(split):
    if isinstance(split, tuple):
        return split[2]
    parts = [batch[2] for batch in split.as_numpy_iterator()]
    return tf.nest.map_structure(lambda *all: np.concatenate(all), *parts)


def test_masked_positions_weigh_nothing(form):
    own = np.linspace(0.5, 2.0, 12).astype("float32")
    plain = form(TOKENS, NEXT)
    np.testing.assert_array_equal(weights(with_masks(plain, model())), COUNTS)
    for given in (own, own[:, None] * np.ones((1, 6), "float32")):
        found = weights(with_masks(form(TOKENS, NEXT, given), model()))
        np.testing.assert_allclose(found, COUNTS * own[:, None], rtol=1e-6)


def test_an_output_without_a_mask_counts_whole(form):
    labels = {"word": NEXT, "length": COUNTS.sum(axis=1)}
    found = weights(with_masks(form(TOKENS, labels), model(named=True)))
    np.testing.assert_array_equal(found["word"], COUNTS)
    np.testing.assert_array_equal(found["length"], np.ones(12))


def test_a_split_of_a_model_that_masks_nothing_stays_as_it_is(form):
    plain = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    split = form(TOKENS, NEXT)
    assert with_masks(split, plain) is split
    data = kd.Data(train=split, validation=split)
    assert with_masked(data, plain) is data


def test_raw_inputs_get_the_weights_of_what_is_made_of_them(form):
    train = form(TOKENS, NEXT)
    data = kd.Data(train=train, validation=train)
    raw = form(TOKENS + 100, NEXT)
    raw = kd.Data(train=raw, validation=raw)
    found = with_labels_of(raw, with_masked(data, model()))
    assert found.train is raw.train
    np.testing.assert_array_equal(weights(found.validation), COUNTS)
    assert found.reported_split == "validation"


def test_measure_is_keras_own_evaluation(tmp_path):
    judged = model()
    judged.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
    expected = np.exp(judged.evaluate(TOKENS, NEXT, verbose=0))
    judged.save(tmp_path / "it.keras")
    task = kd.tasks.LanguageModel()
    for one in (judged, tmp_path / "it.keras"):
        found = kd.measure(one, (TOKENS, NEXT), task=task, latency=False)
        assert found["perplexity"] == pytest.approx(expected, rel=1e-5)
