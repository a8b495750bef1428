# SPDX-License-Identifier: Apache-2.0
"""Views that are made again: seeds, pixels, Mixup and CutMix."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.targets.augment.mixing import CutMix
from keras_kd.targets.augment.mixing import Mixup
from keras_kd.targets.augment.mixing import Partners
from keras_kd.targets.augment.views import Views
from keras_kd.targets.augment.views import check_replayable
from keras_kd.targets.augment.views import seeds
from keras_kd.targets.hashing.fingerprint import fingerprints
from selection import quick


def images(count=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(count, 12, 12, 3)).astype("float32")


def augment(x, seed):
    crop, flip, light = tf.unstack(
        tf.random.experimental.stateless_split(seed, 3)
    )
    x = tf.pad(x, [[2, 2], [2, 2], [0, 0]])
    x = tf.image.stateless_random_crop(x, (12, 12, 3), crop)
    x = tf.image.stateless_random_flip_left_right(x, flip)
    x = tf.image.stateless_random_brightness(x, 0.2, light)
    x = tf.image.stateless_random_contrast(x, 0.8, 1.2, light)
    # Two products in a row are what a graph optimiser likes to merge.
    return tf.image.resize(x, (10, 10)) * 1.7 / 255.0 + 0.1


def in_tf_data(views, x, view, batch_size, **kwargs):
    """Makes a view as training does: in a parallel map, in other batches."""
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)
    dataset = dataset.map(
        lambda x: views.apply(x, view, fingerprints(x)), num_parallel_calls=2
    )
    return np.concatenate(list(dataset.as_numpy_iterator()))


def test_seeds_never_change():
    """Literal values: stored views are worthless under other seeds."""
    marks = np.array([0, 1, 2**64 - 1], "uint64")
    np.testing.assert_array_equal(
        seeds(marks, view=0, seed=0),
        [
            [-111601700, -916867652],
            [1852815163, 105674248],
            [-628058463, 2068368134],
        ],
    )
    np.testing.assert_array_equal(
        seeds(marks, view=3, seed=7),
        [
            [-381440300, -56098075],
            [2126832979, 43066673],
            [642862896, -1289681734],
        ],
    )


def test_seeds_differ_between_samples_views_and_caches():
    marks = fingerprints(images())
    found = np.concatenate(
        [seeds(marks, view, seed) for view in range(3) for seed in range(2)]
    )
    assert len(np.unique(found, axis=0)) == 6 * 24


@pytest.mark.parametrize("batch_size", quick(2, [1, 7, 24]))
def test_views_are_bit_equal_in_labelling_and_training(batch_size):
    x = images()
    labelled = Views(augment, 3, seed=5).apply(x, 2, fingerprints(x))
    replayed = in_tf_data(Views(augment, 3, seed=5), x, 2, batch_size)
    np.testing.assert_array_equal(labelled, replayed)
    assert labelled.shape == (24, 10, 10, 3)


def test_views_do_not_depend_on_place():
    x, order = images(), np.random.default_rng(1).permutation(24)
    views = Views(augment, 1)
    np.testing.assert_array_equal(
        views.apply(x, 0, fingerprints(x)).numpy()[order],
        views.apply(x[order], 0, fingerprints(x[order])),
    )


def test_views_take_a_view_for_each_sample():
    x = images()
    views, marks = Views(augment, 2), fingerprints(x)
    numbers = np.arange(24) % 2
    both = np.stack([views.apply(x, v, marks) for v in range(2)])
    np.testing.assert_array_equal(
        views.apply(x, numbers, marks), both[numbers, np.arange(24)]
    )
    assert not np.array_equal(both[0], both[1])


def test_views_of_nested_inputs_and_changed_dtypes():
    x = {
        "image": (images() * 255).astype("uint8"),
        "number": np.arange(24, dtype="int64"),
    }

    def augment(x, seed):
        image = tf.cast(x["image"], tf.float32) / 255.0
        return {
            "image": tf.image.stateless_random_flip_up_down(image, seed),
            "number": x["number"] + 1,
        }

    found = Views(augment, 1).apply(x, 0, fingerprints(x))
    assert found["image"].dtype == tf.float32
    np.testing.assert_array_equal(found["number"], x["number"] + 1)


def test_replayable_augmentation_passes():
    check_replayable(Views(augment, 4), images(24))


@pytest.mark.parametrize(
    "augment",
    [
        lambda x, seed: x + tf.random.uniform(()),
        lambda x, seed: x + np.float32(np.random.uniform()),  # when traced
        lambda x, seed: tf.image.random_flip_left_right(x),
    ],
    ids=["tf.random", "np.random", "tf.image"],
)
def test_augmentation_with_a_state_is_refused(augment):
    with pytest.raises(ValueError, match="not replayable.*stateless"):
        check_replayable(Views(augment, 1), images(24))


def test_keras_layer_as_augmentation_is_refused():
    with pytest.raises(ValueError, match="not replayable.*RandomFlip"):
        Views(keras.layers.RandomFlip(), 1)


@pytest.mark.parametrize("mixing", quick(1, [CutMix, Mixup]))
def test_mixing_is_bit_equal_in_labelling_and_training(mixing):
    x = images()
    views = Views(mixing(), 2, partners=Partners(x))
    check_replayable(views, x)
    labelled = views.apply(x, 1, fingerprints(x))
    np.testing.assert_array_equal(labelled, in_tf_data(views, x, 1, 5))
    assert np.mean(labelled == x) < 0.9


@pytest.mark.parametrize("mixing", [Mixup, CutMix])
def test_mixing_finds_its_partners_in_another_order(mixing):
    x, order = images(), np.random.default_rng(1).permutation(24)
    marks = fingerprints(x)
    first = Views(mixing(), 1, partners=Partners(x))
    again = Views(mixing(), 1, partners=Partners(x[order], marks.numpy()))
    assert first.identity == again.identity
    np.testing.assert_array_equal(
        first.apply(x, 0, marks), again.apply(x, 0, marks)
    )


def test_partners_that_are_missing_are_named():
    x = images()
    with pytest.raises(ValueError, match="lack 4 of 24, .* sample 20"):
        Partners(x[:20], fingerprints(x).numpy())


def test_mixup_blends_inputs_and_labels_in_the_same_share():
    """Each sample is its own one-hot label, so shares can be read off."""
    x = np.eye(24, dtype="float32").reshape(24, 24, 1, 1)
    y = np.eye(24, dtype="float32")
    views, marks = Views(Mixup(), 1, partners=Partners(x)), fingerprints(x)
    mixed = views.apply(x, 0, marks).numpy().reshape(24, 24)
    np.testing.assert_allclose(
        views.labels(x, y, y, 0, marks), mixed, atol=1e-6
    )
    np.testing.assert_allclose(mixed.sum(axis=1), 1.0, atol=1e-6)
    assert ((mixed > 0.01).sum(axis=1) == 2).sum() >= 20


def test_cutmix_share_is_that_of_the_pixels():
    x = np.stack([np.full((12, 12, 1), n, "float32") for n in range(24)])
    y = np.eye(24, dtype="float32")
    views, marks = Views(CutMix(), 1, partners=Partners(x)), fingerprints(x)
    mixed = views.apply(x, 0, marks).numpy().reshape(24, -1)
    counts = np.stack([(mixed == n).mean(axis=1) for n in range(24)], axis=1)
    np.testing.assert_allclose(
        views.labels(x, y, y, 0, marks), counts, atol=1e-6
    )


def test_mixup_share_is_drawn_from_beta():
    drawn = seeds(np.arange(3000, dtype="uint64"), 0, 0)
    mixing = Mixup(alpha=0.4)
    compiled = tf.function(
        lambda: tf.map_fn(
            lambda seed: mixing.share(None, seed),
            drawn,
            fn_output_signature=tf.float32,
        )
    )
    share = compiled().numpy()
    # Mean and variance of Beta(a, a): 1/2 and 1 / (4 (2a + 1)).
    np.testing.assert_allclose(share.mean(), 0.5, atol=0.02)
    np.testing.assert_allclose(share.var(), 1 / 7.2, rtol=0.05)


def test_mixing_without_labels_marks_samples_unlabelled():
    x = images()
    views = Views(Mixup(labels="none"), 1, partners=Partners(x))
    y = np.arange(24, dtype="uint8")
    found = views.labels(x, y, y, 0, fingerprints(x))
    np.testing.assert_array_equal(found, np.full(24, -1))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (lambda: Mixup(alpha=0.0), "`alpha` must be positive"),
        (lambda: CutMix(labels="hard"), "'mixed' or 'none'"),
        (lambda: Views(Mixup(), 1), "Expected: arrays.*a stream"),
        (
            lambda: Mixup().check_labels(tf.TensorSpec((None,), tf.int32)),
            "impossible with class ids.*int32.*labels='none'",
        ),
        (
            lambda: Mixup()(*[tf.zeros(3, tf.uint8)] * 2, (0, 0)),
            "floating point inputs. Received: uint8",
        ),
    ],
)
def test_mixing_errors(bad, text):
    with pytest.raises(ValueError, match=text):
        bad()
