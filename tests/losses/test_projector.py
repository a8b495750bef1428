# SPDX-License-Identifier: Apache-2.0
"""Projectors bring every pair of shapes together, or say why not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_kd.losses.projector import Projector
from keras_kd.losses.projector import interpolation

RNG = np.random.default_rng(0)

SHAPES = [
    # student, teacher, as shapes without the batch
    ((5,), (5,)),
    ((5,), (3,)),
    ((8, 8, 4), (6,)),
    ((6,), (2, 3, 6)),
    ((6,), (7, 4)),
    ((8, 8, 4), (4, 4, 6)),
    ((4, 4, 4), (8, 8, 6)),
    ((5, 7, 3), (9, 2, 3)),
    ((4, 6, 3), (24, 5)),
    ((24, 5), (4, 6, 3)),
    ((10, 4), (7, 4)),
    ((4, 4, 4, 2), (2, 2, 2, 3)),
]


@pytest.mark.parametrize(("student", "teacher"), SHAPES, ids=str)
def test_projector_gives_the_teachers_shape(student, teacher):
    projector = Projector(teacher)
    x = RNG.normal(size=(2, *student)).astype("float32")
    y = projector(x)
    assert tuple(y.shape) == (2, *teacher)
    assert projector.compute_output_shape((None, *student)) == (None, *teacher)
    assert np.all(np.isfinite(y))
    # Unknown batch size, and XLA, give the same.
    signature = [tf.TensorSpec((None, *student), tf.float32)]
    graph = tf.function(projector, input_signature=signature)
    np.testing.assert_allclose(graph(x), y, rtol=1e-4, atol=1e-5)
    xla = tf.function(projector, jit_compile=True)
    np.testing.assert_allclose(xla(tf.constant(x)), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("student", "teacher"), SHAPES, ids=str)
def test_projector_learns_a_width_only_where_it_differs(student, teacher):
    projector = Projector(teacher)
    projector.build((None, *student))
    expected = (
        [] if student[-1] == teacher[-1] else [(student[-1], teacher[-1])]
    )
    assert [tuple(w.shape) for w in projector.weights] == expected
    assert [tuple(w.shape) for w in projector.trainable_weights] == expected


def test_projector_of_equal_shapes_is_the_identity():
    x = RNG.normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(Projector((4, 4, 3))(x), x)


def test_projector_averages_a_map_for_a_vector():
    x = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    np.testing.assert_allclose(
        Projector((3,))(x), x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6
    )


def test_projector_repeats_a_vector_over_positions():
    x = RNG.normal(size=(2, 3)).astype("float32")
    y = np.asarray(Projector((4, 5, 3))(x))
    np.testing.assert_array_equal(
        y, np.broadcast_to(x[:, None, None], (2, 4, 5, 3))
    )


def test_projector_reads_a_map_as_a_sequence_in_row_order():
    x = np.arange(24.0, dtype="float32").reshape(1, 3, 4, 2)
    np.testing.assert_array_equal(Projector((12, 2))(x), x.reshape(1, 12, 2))
    np.testing.assert_array_equal(Projector((3, 4, 2))(x.reshape(1, 12, 2)), x)


@pytest.mark.parametrize("dense", ["smaller student", "smaller teacher"])
def test_projector_is_linear_and_its_order_does_not_matter(dense):
    """The dense layer runs at the smaller size; resizing commutes with it."""
    sizes = [(4, 4), (8, 8)]
    student, teacher = sizes if dense == "smaller student" else sizes[::-1]
    projector = Projector((*teacher, 5))
    x = RNG.normal(size=(2, *student, 3)).astype("float32")
    y = projector(x)
    kernel = np.asarray(projector.dense.kernel)
    same_width = Projector((*teacher, 3))(x)
    np.testing.assert_allclose(y, same_width @ kernel, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "wanted"), [(8, 4), (7, 3), (3, 7), (5, 5), (9, 2), (1, 4), (4, 1)]
)
def test_interpolation_equals_antialiased_bilinear_resizing(size, wanted):
    x = RNG.normal(size=(1, size, 1, 3)).astype("float32")
    expected = ops.image.resize(
        x, (wanted, 1), interpolation="bilinear", antialias=True
    )
    matrix = interpolation(size, wanted)
    assert matrix.shape == (wanted, size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    np.testing.assert_allclose(
        np.einsum("ws,bsxc->bwxc", matrix, x), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("target", [(4, 4, 3), (5, 11, 3), (13, 2, 3)])
def test_projector_resizes_like_keras(target):
    x = RNG.normal(size=(2, 8, 6, 3)).astype("float32")
    expected = ops.image.resize(
        x, target[:2], interpolation="bilinear", antialias=True
    )
    np.testing.assert_allclose(
        Projector(target)(x), expected, rtol=1e-4, atol=1e-5
    )


def test_projector_leaves_axes_of_unknown_length():
    projector = Projector((None, None, 6))
    shape = projector.compute_output_shape((None, 5, 7, 3))
    assert shape == (None, 5, 7, 6)
    assert tuple(projector(ops.ones((2, 5, 7, 3))).shape) == (2, 5, 7, 6)
    pooled = Projector((6,))
    pooled.build((None, None, 4))
    assert tuple(pooled(ops.ones((2, 9, 4))).shape) == (2, 6)
    sequences = Projector((None, 6))
    sequences.build((None, None, 4))
    assert tuple(sequences(ops.ones((2, 9, 4))).shape) == (2, 9, 6)


def test_projector_follows_the_dtype_policy():
    projector = Projector((3,), dtype="mixed_float16")
    assert projector(ops.ones((2, 5))).dtype == "float16"
    assert projector.dense.kernel.dtype == "float32"


def test_projector_can_be_saved_in_a_model(tmp_path):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, Projector((4, 4, 6), name="fit")(inputs))
    model.save(tmp_path / "projector.keras")
    copy = keras.models.load_model(tmp_path / "projector.keras")
    x = RNG.normal(size=(2, 8, 8, 4)).astype("float32")
    np.testing.assert_array_equal(copy(x), model(x))


@pytest.mark.parametrize("target", [(), (4, 4, None)])
def test_projector_needs_a_known_width(target):
    with pytest.raises(ValueError, match="known number of features"):
        Projector(target)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((8, 8, 4), (10, 4)),
        ((10, 4), (3, 3, 4)),
        ((4, 4, 4, 2), (16, 2)),
        ((None, 4), (7, 4)),
        ((None, None, 4), (8, 8, 4)),
        ((3, 3, 4), (None, 4)),
    ],
)
def test_projector_refuses_positions_that_do_not_correspond(student, teacher):
    with pytest.raises(ValueError, match="cannot bring positions .* Pool one"):
        Projector(teacher).build((None, *student))


def test_projector_refuses_a_tap_of_unknown_width():
    with pytest.raises(ValueError, match="student tap with a known number"):
        Projector((3,)).build((None, None))
