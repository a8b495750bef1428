# SPDX-License-Identifier: Apache-2.0
"""Maps whose sizes only a step knows are resized, or compared and refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.losses.projector import Projector
from keras_kd.losses.projector import interpolation
from keras_kd.losses.projector import resized_like

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")


def conv(strides, width, seed, head=None):
    inputs = keras.Input((None, None, 2))
    maps = layers.Conv2D(
        width,
        3,
        strides,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(seed=seed),
    )(inputs)
    return keras.Model(inputs, maps if head is None else head(maps))


def fit(student, losses, size=None):
    """One step on images whose size the compiled step does not know."""
    shape = (None, size, size, 2)
    images = tf.data.Dataset.from_generator(
        lambda: iter([IMAGES]), output_signature=tf.TensorSpec(shape)
    )
    distiller = kd.Distiller(
        conv(1, 3, 1), student, alpha=1.0, distillation_losses=losses
    )
    distiller.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    history = distiller.fit(images, verbose=0).history
    return distiller, history["loss"][0]


def test_a_map_of_one_position_is_not_broadcast():
    pool = layers.GlobalAveragePooling2D(keepdims=True)
    with pytest.raises(ValueError, match="other sizes than the teacher's"):
        fit(conv(1, 3, 2, pool), kd.losses.SoftTargets())


@pytest.mark.parametrize("name", ["soft_targets", "feature_matching"])
def test_maps_of_other_strides_are_refused_without_a_projector(name):
    loss = kd.losses.get(name)
    loss.projector = None
    with pytest.raises(ValueError, match="projector='auto'"):
        fit(conv(2, 3, 2), loss)


@pytest.mark.parametrize("size", [None, 8])
def test_auto_learns_a_width_of_maps_of_unknown_sizes(size):
    """Also of sizes that Keras knows in the step and not before."""
    distiller, value = fit(conv(2, 5, 2), kd.losses.FeatureMatching(), size)
    (projector,) = distiller.projectors.values()
    assert [tuple(w.shape) for w in projector.weights] == [(5, 3)]
    assert np.isfinite(value)


def test_auto_of_equal_widths_learns_nothing_and_equals_keras_resizing():
    student = conv(2, 3, 2)
    teacher_map = conv(1, 3, 1).predict(IMAGES, verbose=0)
    own = student.predict(IMAGES, verbose=0)
    resized = keras.ops.image.resize(own, (8, 8), antialias=True)
    expected = np.square(teacher_map - np.asarray(resized)).mean()
    distiller, value = fit(student, kd.losses.FeatureMatching())
    assert distiller.projectors == {}
    assert value == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_takes_maps_of_any_sizes_still_does():
    _, value = fit(conv(2, 3, 2), kd.losses.AttentionTransfer(weight=1.0))
    assert value > 0.0


@pytest.mark.parametrize("size, wanted", [(5, 8), (8, 3), (4, 4), (1, 6)])
def test_sizes_of_a_step_are_resized_as_known_ones(size, wanted):
    maps = np.random.default_rng(0).normal(size=(2, size, 3)).astype("float32")
    shape = tf.TensorSpec((None, None, 3))
    compiled = tf.function(resized_like, input_signature=[shape, shape])
    found = compiled(maps, np.zeros((2, wanted, 3), "float32"))
    expected = np.einsum("ws,bsc->bwc", interpolation(size, wanted), maps)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_projector_repeats_a_vector_over_positions_of_unknown_number():
    projector = Projector((None, None, 6))
    vector = keras.ops.ones((2, 3))
    maps = projector(vector)
    assert tuple(maps.shape) == (2, 1, 1, 6)
    found = resized_like(maps, keras.ops.ones((2, 4, 5, 6)))
    np.testing.assert_allclose(found, np.broadcast_to(maps, (2, 4, 5, 6)))
