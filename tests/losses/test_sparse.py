# SPDX-License-Identifier: Apache-2.0
"""Sparse targets: their losses against the dense ones and in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import reference
from keras_kd.losses import soft_targets
from keras_kd.losses import sparse
from selection import quick

RNG = np.random.default_rng(0)
CLASSES, K = 1000, 16
STUDENT = 2.0 * RNG.normal(size=(8, CLASSES))
# A few likely classes above many that are alike, as trained teachers give.
TEACHER = 3.0 * RNG.normal(size=(8, CLASSES))
TEACHER[:, :4] += [12.0, 8.0, 7.0, 5.0]
TARGET = reference.top_k_target(TEACHER, K)

# A student that is sure of a named class, or of another one.
SURE = np.where(np.arange(CLASSES) == TARGET["ids"][:, :1], 60.0, STUDENT)
ASTRAY = np.where(np.arange(CLASSES) == CLASSES - 1, 60.0, STUDENT)


def gradient(function, student):
    """Returns `(values, gradient of their sum)`."""
    student = tf.constant(student, "float32")
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = function(student)
        total = tf.reduce_sum(values)
    return values.numpy(), tape.gradient(total, student).numpy()


@pytest.mark.parametrize("student", [STUDENT, SURE, ASTRAY])
@pytest.mark.parametrize("temperature", sparse.GRID)
def test_top_k_equals_its_float64_twin_on_the_grid(temperature, student):
    values = sparse.sparse_soft_targets(
        **TARGET, student_logits=student, temperature=temperature
    )
    expected = reference.sparse_soft_targets(TEACHER, student, K, temperature)
    np.testing.assert_allclose(values, expected, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.25, 1.5, 3.0, 6.0, 13.0, 40.0])
def test_top_k_is_close_to_its_twin_between_the_grid(temperature):
    values = sparse.sparse_soft_targets(
        **TARGET, student_logits=STUDENT, temperature=temperature
    )
    expected = reference.sparse_soft_targets(TEACHER, STUDENT, K, temperature)
    np.testing.assert_allclose(values, expected, rtol=5e-3)


@pytest.mark.parametrize("temperature", [1.25, 1.5, 3.0, 6.0, 13.0, 20.0])
@pytest.mark.parametrize("masked", [0, 500, 980])
def test_probability_of_the_others_is_right_within_half_a_percent(
    temperature, masked
):
    """Masked classes, at -1e9, must not bend the tail of the rest."""
    teacher = 3.0 * RNG.normal(size=(30, CLASSES))
    teacher[:, CLASSES - masked :] = -1e9
    events, _ = sparse.sparse_events(
        **reference.top_k_target(teacher, K),
        student_logits=teacher,
        temperature=temperature,
    )
    p = -np.sort(-reference.softmax(teacher / temperature))
    error = np.exp(events)[:, -1] - p[:, K:].sum(axis=-1)
    assert np.abs(error).max() < 5e-3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0, 30.0])
def test_top_k_of_all_classes_but_one_equals_the_dense_loss(temperature):
    teacher, student = TEACHER[:, :6], STUDENT[:, :6]
    target = reference.top_k_target(teacher, 5)
    received = gradient(
        lambda z: sparse.sparse_loss(target, z, temperature), student
    )
    expected = gradient(
        lambda z: soft_targets(teacher, z, temperature), student
    )
    for got, dense in zip(received, expected, strict=True):
        np.testing.assert_allclose(got, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_top_k_has_the_dense_gradient_where_it_names_the_class(temperature):
    value, of_sparse = gradient(
        lambda z: sparse.sparse_loss(TARGET, z, temperature), STUDENT
    )
    dense_value, dense = gradient(
        lambda z: soft_targets(TEACHER, z, temperature), STUDENT
    )
    of_sparse, dense = (
        np.take_along_axis(of, TARGET["ids"], axis=-1)
        for of in (of_sparse, dense)
    )
    np.testing.assert_allclose(of_sparse, dense, rtol=1e-3, atol=1e-5)
    assert np.all(value < dense_value)  # joining classes can only lose


def test_top_k_is_zero_at_the_teacher():
    received = gradient(lambda z: sparse.sparse_loss(TARGET, z, 4.0), TEACHER)
    for zero in received:
        np.testing.assert_allclose(zero, np.zeros_like(zero), atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_top_k_stays_finite_at_extreme_logits(scale, temperature):
    sharp = reference.top_k_target(1e3 * TEACHER, K)
    nothing_else = {**TARGET, "tail": TARGET["tail"] - 1e5}
    for target in (sharp, nothing_else):
        value, slope = gradient(
            lambda z, of=target: sparse.sparse_loss(of, z, temperature),
            scale * STUDENT,
        )
        assert np.all(np.isfinite(value)) and np.all(value > -1e-3)
        assert np.all(np.isfinite(slope))


def draws(teacher, count, temperature):
    """A sampled target that the encoding had no part in."""
    p = reference.softmax(teacher / temperature)
    counts = np.stack([RNG.multinomial(count, row) for row in p])
    ids = np.argsort(-counts, axis=-1)[:, :count]
    return {
        "ids": ids,
        "weights": np.take_along_axis(counts, ids, -1).astype("float32"),
        "temperature": np.full(len(p), temperature, "float32"),
    }


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_sampled_equals_its_float64_twin(temperature):
    target = draws(TEACHER, 50, temperature)
    values = sparse.sparse_loss(target, STUDENT, temperature)
    expected = reference.sampled_soft_targets(
        target["ids"], target["weights"], STUDENT, temperature
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_sampled_gradient_of_every_class_drawn_in_proportion_is_the_dense():
    teacher, student = TEACHER[:, :6], STUDENT[:, :6]
    target = {
        "ids": np.tile(np.arange(6), (8, 1)),
        "weights": 7.0 * reference.softmax(teacher / 3.0),
        "temperature": np.full(8, 3.0),
    }
    value, received = gradient(
        lambda z: sparse.sparse_loss(target, z, 3.0), student
    )
    dense, expected = gradient(lambda z: soft_targets(teacher, z, 3.0), student)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
    log_p = reference.log_softmax(teacher / 3.0)
    entropy = -(np.exp(log_p) * log_p).sum(axis=-1)
    np.testing.assert_allclose(value - dense, 9.0 * entropy, rtol=1e-4)


def test_sampled_at_another_temperature_is_nan_without_a_gradient():
    target = draws(TEACHER, 50, 2.0)
    target["temperature"][1:] = 4.0
    found = sparse.differs(target, 2.0)
    np.testing.assert_array_equal(found, np.arange(8) > 0)
    value, slope = gradient(
        lambda z: sparse.sparse_loss(target, z, 2.0), STUDENT
    )
    np.testing.assert_array_equal(np.isnan(value), np.arange(8) > 0)
    assert slope[0].any() and not slope[1:].any()
    assert not np.any(sparse.differs(TARGET, 7.0))


@pytest.mark.parametrize(
    ("kind", "jit_compile"),
    quick(
        2,
        [
            *(("top_k", True), ("sampled", False)),
            *(("top_k", False), ("sampled", True)),
        ],
    ),
)
def test_sequences_of_unknown_length_equal_rows(kind, jit_compile):
    rows = TARGET if kind == "top_k" else draws(TEACHER, 50, 4.0)
    expected = gradient(lambda z: sparse.sparse_loss(rows, z), STUDENT)
    target = {
        key: tf.constant(np.reshape(part, (4, 2, *part.shape[1:])), part.dtype)
        for key, part in rows.items()
    }
    specs = tf.nest.map_structure(
        lambda t: tf.TensorSpec((None, None, *t.shape[2:]), t.dtype),
        (target, tf.zeros((4, 2, CLASSES))),
    )

    @tf.function(input_signature=specs, jit_compile=jit_compile)
    def step(target, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = sparse.sparse_loss(target, student)
        return values, tape.gradient(values, student)

    student = tf.constant(STUDENT.reshape(4, 2, CLASSES), "float32")
    for got, of_rows in zip(step(target, student), expected, strict=True):
        of_rows = of_rows.reshape(got.shape)
        np.testing.assert_allclose(got, of_rows, rtol=1e-4, atol=1e-5)


def test_to_dense_keeps_named_classes_and_the_mass_of_the_others():
    p = np.exp(sparse.to_dense(TARGET, CLASSES))
    true = reference.softmax(TEACHER)
    named = np.zeros(p.shape, bool)
    np.put_along_axis(named, TARGET["ids"], True, axis=-1)
    np.testing.assert_allclose(p[named], true[named], rtol=1e-5)
    p, true = (np.where(named, 0.0, of) for of in (p, true))
    np.testing.assert_allclose(p.sum(-1), true.sum(-1), rtol=1e-4)
    np.testing.assert_allclose(p.max(-1), p.sum(-1) / (CLASSES - K), rtol=1e-4)


def test_is_sparse_looks_at_the_keys_alone():
    assert sparse.is_sparse(TARGET)
    assert sparse.is_sparse(draws(TEACHER, 5, 1.0))
    assert not sparse.is_sparse(TEACHER)
    assert not sparse.is_sparse({"output": TEACHER})
    assert not sparse.is_sparse({**TARGET, "more": TEACHER})


@pytest.mark.parametrize(
    "call",
    [
        lambda: sparse.sparse_loss({"ids": TARGET["ids"]}, STUDENT),
        lambda: sparse.differs(TEACHER, 1.0),
        lambda: sparse.to_dense({"output": TEACHER}, CLASSES),
    ],
)
def test_target_that_is_not_sparse_is_refused(call):
    with pytest.raises(ValueError, match="dict with exactly the keys"):
        call()


def test_sampled_target_has_no_logits():
    with pytest.raises(ValueError, match="classes that were not drawn"):
        sparse.to_dense(draws(TEACHER, 5, 1.0), CLASSES)
