# SPDX-License-Identifier: Apache-2.0
"""function_matching: new pictures at each pass, the same for both models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.data.function_matching import mixed_up
from keras_kd.data.function_matching import random_crops
from keras_kd.recipes import digits

SEED = [3, 5]
PLAIN = {"crop": None, "mixup": None}


def slopes(rows=64, height=9, width=13):
    """Images whose two channels say where each pixel was."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    image = np.stack([y, x], axis=-1).astype("float32")
    return np.repeat(image[None], rows, axis=0)


def steps(values):
    """Returns the one distance between neighbours, a row."""
    differences = np.diff(values, axis=1)
    np.testing.assert_allclose(
        differences,
        np.repeat(differences[:, :1], differences.shape[1], 1),
        atol=1e-4,
    )
    return differences[:, 0]


def one_pass(dataset):
    return np.concatenate(list(dataset.as_numpy_iterator()))


def test_random_crops_are_parts_of_the_image_of_the_size_that_is_asked():
    parts = random_crops(slopes(2000), 0.3, SEED).numpy()
    rows, columns = parts[:, :, 0, 0], parts[:, 0, :, 1]
    np.testing.assert_allclose(
        parts[..., 0], rows[:, :, None] + 0 * parts[..., 0], atol=1e-4
    )
    height, width = steps(rows), steps(columns)
    share, ratio = height * width, height / width
    assert 0.3 <= share.min() < 0.33 and 0.97 < share.max() <= 1.0001
    assert share.mean() == pytest.approx(0.65, abs=0.02)
    assert 0.75 - 1e-3 <= ratio.min() < 0.77 and 1.3 < ratio.max() < 1.334
    assert rows.min() >= -1e-4 and rows.max() <= 8 + 1e-4
    assert columns.min() >= -1e-4 and columns.max() <= 12 + 1e-4
    # Anywhere in the image: some parts touch each side.
    free = 8 * (1 - height)
    place = rows[:, 0][free > 1] / free[free > 1]
    assert place.min() < 0.02 and place.max() > 0.98


def test_random_crops_of_the_whole_area_are_the_image():
    x = slopes(8)
    np.testing.assert_allclose(random_crops(x, 1.0, SEED), x, atol=1e-4)


@pytest.mark.parametrize("concentration", [0.2, 1.0, 4.0])
def test_mixed_up_shares_have_the_moments_of_their_distribution(concentration):
    x = tf.eye(2000)[:, :, None, None]  # every image is known by its place
    mixed = mixed_up(x, concentration, SEED).numpy()[..., 0, 0]
    np.testing.assert_allclose(mixed.sum(axis=1), 1.0, atol=1e-5)
    assert (np.count_nonzero(mixed, axis=1) <= 2).all()
    partners = mixed - np.diag(np.diag(mixed))
    # Each image is a partner once.
    assert (np.count_nonzero(partners, axis=0) <= 1).all()
    own = np.diag(mixed)
    assert own.mean() == pytest.approx(0.5, abs=0.03)
    variance = 0.25 / (2.0 * concentration + 1.0)  # of Beta(a, a)
    assert own.var() == pytest.approx(variance, rel=0.1)


def test_function_matching_draws_anew_in_each_pass_and_the_same_by_seed():
    x = np.random.default_rng(0).random((50, 6, 6, 1), "float32")

    def passes(seed):
        dataset = kd.function_matching(x, batch_size=16, seed=seed)
        return one_pass(dataset), one_pass(dataset)

    first, again, other = passes(1), passes(1), passes(2)
    assert first[0].shape == x.shape
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first, other)


def test_function_matching_drops_labels_and_takes_every_kind_of_data():
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), "uint8")
    y = np.arange(20)
    batched = tf.data.Dataset.from_tensor_slices((x, y, y)).batch(8)
    data = kd.Data(train=(x, y), validation=(x[:1], y[:1]))
    for source in (x, (x, y), (x, None), data, batched):
        dataset = kd.function_matching(source, **PLAIN, batch_size=8)
        assert dataset.element_spec.dtype == tf.float32
        assert tuple(dataset.element_spec.shape) == (None, 6, 6, 3)
        found = one_pass(dataset)
        order = found.reshape(20, -1)[:, :3] @ np.array([1, 256, 65536])
        wanted = x.reshape(20, -1)[:, :3] @ np.array([1, 256, 65536])
        assert sorted(order) == sorted(wanted)
        if source is batched:
            np.testing.assert_array_equal(found, x)


def test_function_matching_mirrors_half_of_the_images():
    x = slopes(400)
    found = one_pass(kd.function_matching(x, **PLAIN, flip=True))
    mirrored = found[:, 0, 0, 1] == 12
    assert 160 < mirrored.sum() < 240
    np.testing.assert_array_equal(found[mirrored], x[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(found[~mirrored], x[~mirrored])


def test_function_matching_shows_both_models_the_same_picture():
    seen = {"teacher": [], "student": []}

    class Seen(keras.layers.Layer):
        def call(self, x, training=None):
            if hasattr(x, "numpy"):
                seen[self.name].append((x.numpy(), training))
            return x

    def model(name):
        stack = [Seen(name=name), keras.layers.Flatten()]
        return keras.Sequential(
            [keras.Input((6, 6, 1)), *stack, keras.layers.Dense(3)]
        )

    x = np.random.default_rng(0).random((24, 6, 6, 1), "float32")
    distiller = kd.Distiller(model("teacher"), model("student"), 1.0, alpha=1.0)
    distiller.compile("sgd", run_eagerly=True)
    for found in seen.values():
        found.clear()
    distiller.fit(kd.function_matching(x, batch_size=8), verbose=0)
    assert len(seen["student"]) == len(seen["teacher"]) == 3
    for student, teacher in zip(*seen.values(), strict=True):
        np.testing.assert_array_equal(student[0], teacher[0])
        assert not np.isin(student[0], x).all()


@pytest.mark.slow
def test_function_matching_teaches_digits_without_any_label():
    data = digits.load_data()
    teacher = digits.build_teacher()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile("adam", loss)
    x, y = digits.load_teacher_data().train
    teacher.fit(x, y, batch_size=32, epochs=4, verbose=0)
    student = digits.build_student()
    distiller = kd.Distiller(teacher, student, temperature=1.0, alpha=1.0)
    distiller.compile(keras.optimizers.Adam(1e-2))
    pictures = kd.function_matching(data, crop=0.5, batch_size=32)
    distiller.fit(pictures, epochs=15, verbose=0)
    x, y = data.test
    said, learned = (
        m.predict(x, verbose=0).argmax(-1) for m in (teacher, student)
    )
    assert (said == y).mean() > 0.9
    assert (said == learned).mean() > 0.92
    assert (learned == y).mean() > (said == y).mean() - 0.06


@pytest.mark.parametrize(
    "data, options, message",
    [
        (np.zeros((8, 5), "int32"), {}, "token ids.*int32"),
        (np.array(["a", "b"]), {}, "token ids or texts.*string"),
        (np.zeros((8, 5, 4), "float32"), {}, "Expected images"),
        ({"image": np.zeros((8, 4, 4, 1))}, {}, "dict of inputs"),
        (np.zeros((8, 4, 4, 1)), {"crop": 0.0}, "`crop` must.*at most 1"),
        (np.zeros((8, 4, 4, 1)), {"crop": 1.5}, "crop=1.5"),
        (np.zeros((8, 4, 4, 1)), {"mixup": -1.0}, "`mixup` must"),
    ],
)
def test_function_matching_refuses(data, options, message):
    with pytest.raises(ValueError, match=message):
        kd.function_matching(data, **options)
