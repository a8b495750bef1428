# SPDX-License-Identifier: Apache-2.0
"""Encodings of cached targets: what is stored, and what a loss gets back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd.losses import soft_targets
from keras_kd.losses import sparse
from keras_kd.targets.store.encodings import Dense
from keras_kd.targets.store.encodings import Sampled
from keras_kd.targets.store.encodings import TopK

RNG = np.random.default_rng(0)
CLASSES = 1000
LOGITS = (3.0 * RNG.normal(size=(6, CLASSES))).astype("float32")

each_encoding = pytest.mark.parametrize(
    "encoding",
    [
        Dense("float16"),
        Dense("float32"),
        TopK(16, CLASSES),
        Sampled(50, 2.0, CLASSES, seed=3),
    ],
    ids=lambda encoding: type(encoding).__name__,
)


def bytes_a_sample(fields):
    return sum(field[0].nbytes for field in fields.values())


@each_encoding
def test_encoding_keeps_every_axis_but_the_last(encoding):
    """Views, or positions of a sequence, are encoded one by one."""
    flat = encoding.fields(LOGITS)
    folded = encoding.fields(LOGITS.reshape(3, 2, CLASSES))
    for name, field in flat.items():
        assert field.shape[0] == 6
        assert folded[name].shape[:2] == (3, 2)
        np.testing.assert_array_equal(folded[name].reshape(field.shape), field)


@each_encoding
def test_fields_do_not_depend_on_the_batch(encoding):
    """A run that is resumed writes the bytes of one that was not stopped."""
    whole = encoding.fields(LOGITS)
    parts = [encoding.fields(part) for part in np.split(LOGITS, [1, 4])]
    for name, field in whole.items():
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(joined, field)
        assert joined.dtype == field.dtype


@each_encoding
def test_config_makes_the_same_encoding_again(encoding):
    config = json.loads(json.dumps(encoding.get_config()))
    again = type(encoding)(**config)
    assert again.get_config() == encoding.get_config()
    for name, field in encoding.fields(LOGITS).items():
        np.testing.assert_array_equal(again.fields(LOGITS)[name], field)


@each_encoding
def test_target_is_the_same_inside_a_dataset(encoding):
    fields = encoding.fields(LOGITS)
    dataset = tf.data.Dataset.from_tensor_slices(fields).batch(6)
    inside = next(iter(dataset.map(encoding.target)))
    tf.nest.map_structure(
        np.testing.assert_array_equal, inside, encoding.target(fields)
    )
    for tensor in tf.nest.flatten(inside):
        assert tensor.dtype in (tf.int32, tf.float32)


def test_dense_float32_gives_back_every_bit():
    encoding = Dense("float32")
    target = encoding.target(encoding.fields(LOGITS))
    np.testing.assert_array_equal(target, LOGITS)


def test_dense_float16_of_large_values_stays_finite():
    fields = Dense("float16").fields([[1e9, -1e9, 0.1]])
    np.testing.assert_array_equal(
        fields["values"], np.array([[65504, -65504, 0.1]], "float16")
    )


def test_top_k_takes_84_bytes_at_a_thousand_classes():
    assert bytes_a_sample(TopK(16).fields(LOGITS)) == 84
    assert bytes_a_sample(Dense("float16").fields(LOGITS)) == 2000


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")],
)
@pytest.mark.parametrize("make", [TopK, Sampled])
def test_ids_are_as_narrow_as_the_classes_allow(make, classes, dtype):
    logits = np.zeros((1, classes), "float32")
    logits[0, -1] = 50.0
    fields = make(2).fields(logits)
    assert fields["ids"].dtype == dtype
    assert fields["ids"][0, 0] == classes - 1


def test_top_k_fields_are_those_of_the_float64_twin():
    fields = TopK(16).fields(LOGITS)
    expected = reference.top_k_target(LOGITS.astype("float64"), 16)
    np.testing.assert_array_equal(fields["ids"], expected["ids"])
    for name in ("log_probs", "tail"):
        np.testing.assert_allclose(fields[name], expected[name], rtol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 1.5, 4.0, 10.0])
def test_stored_top_k_gives_the_loss_of_the_exact_one(temperature):
    student = RNG.normal(size=LOGITS.shape)
    encoding = TopK(16)
    target = encoding.target(encoding.fields(LOGITS))
    values = sparse.sparse_loss(target, student, temperature)
    expected = reference.sparse_soft_targets(LOGITS, student, 16, temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-2)


def test_top_k_of_masked_classes_is_finite():
    logits = np.where(np.arange(CLASSES) < 4, LOGITS, -1e9)
    fields = TopK(16).fields(logits)
    assert all(np.all(np.isfinite(field)) for field in fields.values())
    target = TopK(16).target(fields)
    for student in (LOGITS, logits):
        assert np.all(np.isfinite(sparse.sparse_loss(target, student)))


def test_sampled_shares_are_unbiased():
    """Over many draws the mean is p, within 5 standard errors."""
    draws, temperature = 40, 2.0
    logits = LOGITS[:1, :8]
    p = reference.softmax(logits.astype("float64") / temperature)[0]
    mean = np.zeros(8)
    for seed in range(500):
        fields = Sampled(draws, temperature, seed=seed).fields(logits)
        np.add.at(mean, fields["ids"][0], fields["weights"][0] / draws / 500)
    error = np.sqrt(p * (1.0 - p) / (500 * draws))
    assert np.all(np.abs(mean - p) < 5.0 * error)


def test_sampled_gradient_is_on_average_the_dense_one():
    teacher = np.repeat(LOGITS[:1, :8], 2000, axis=0)
    # Rows of one distribution whose bits differ, so that each draws anew.
    teacher = teacher + 1e-4 * RNG.normal(size=(2000, 1))
    encoding = Sampled(20, temperature=2.0)
    target = encoding.target(encoding.fields(teacher))
    student = tf.constant(RNG.normal(size=(1, 8)), "float32")
    gradients = []
    for loss in (
        lambda z: sparse.sparse_loss(target, tf.repeat(z, 2000, axis=0), 2.0),
        lambda z: soft_targets(LOGITS[:1, :8], z, 2.0),
    ):
        with tf.GradientTape() as tape:
            tape.watch(student)
            value = tf.reduce_mean(loss(student))
        gradients.append(tape.gradient(value, student).numpy())
    # 5 standard errors: 2 * sqrt(p (1 - p) / 40,000) <= 0.005
    np.testing.assert_allclose(*gradients, atol=0.025)
    assert np.abs(gradients[1]).max() > 0.2


def test_sampled_names_each_class_once_and_counts_every_draw():
    fields = Sampled(50, 1.0).fields(LOGITS)
    np.testing.assert_array_equal(fields["weights"].sum(-1), np.full(6, 50))
    for ids, weights in zip(fields["ids"], fields["weights"], strict=True):
        named = ids[weights > 0]
        assert len(named) == len(set(named)) < 50
    target = Sampled(50, 1.0).target(fields)
    np.testing.assert_allclose(np.sum(target["weights"], -1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(target["temperature"], np.full(6, 1.0))


def test_sampled_never_draws_a_class_without_probability():
    logits = np.where(np.arange(8) % 2, 0.0, -1e9)[None]
    fields = Sampled(500, 1.0).fields(logits)
    drawn = fields["ids"][fields["weights"] > 0]
    np.testing.assert_array_equal(drawn, [1, 3, 5, 7])


def test_sampled_draws_follow_the_seed():
    first, same, other = (
        Sampled(50, seed=seed).fields(LOGITS)["ids"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Dense("int8"), "'float16' or 'float32'.*'int8'"),
        (lambda: TopK(0), "positive integer.*k=0"),
        (lambda: TopK(2.5), "positive integer.*k=2.5"),
        (lambda: TopK(8).fields(LOGITS[:, :8]), "below the number of classes"),
        (lambda: TopK(8, 10).fields(LOGITS), "for 10 classes.*1000"),
        (lambda: Sampled(0), "from 1 to 65535"),
        (lambda: Sampled(9, temperature=0.0), "must be positive"),
        (lambda: Sampled(9, classes=10).fields(LOGITS), "for 10 classes.*1000"),
    ],
)
def test_encoding_refuses_what_it_cannot_do(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("make", [lambda: TopK(8), lambda: Sampled(8)])
def test_encoding_learns_the_number_of_classes_and_holds_to_it(make):
    encoding = make()
    encoding.fields(LOGITS)
    assert encoding.get_config()["classes"] == CLASSES
    with pytest.raises(ValueError, match="for 1000 classes"):
        encoding.fields(LOGITS[:, :500])
