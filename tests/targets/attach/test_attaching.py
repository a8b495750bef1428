# SPDX-License-Identifier: Apache-2.0
"""Attached data: each sample meets its own targets, or the run stops."""

from __future__ import annotations

import functools
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.targets.attach import lookup
from keras_kd.targets.augment.mixing import CutMix
from keras_kd.targets.augment.mixing import Mixup
from replicas import two_replicas
from selection import quick

SAMPLES, SIDE, CLASSES = 50, 6, 3


def images(count=SAMPLES, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(count, SIDE, SIDE, 1)).astype("float32")


def labels(count=SAMPLES):
    return (np.arange(count) % CLASSES).astype("int32")


def model(seed=0):
    initializer = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(
                5, "tanh", kernel_initializer=initializer(seed), name="hidden"
            ),
            keras.layers.Dense(
                CLASSES, kernel_initializer=initializer(seed + 1)
            ),
        ]
    )


def augment(x, seed):
    return tf.image.stateless_random_brightness(x, 0.3, seed)


@pytest.fixture(scope="module")
def teacher():
    return model()


def build(folder, teacher, data=None, **kwargs):
    names = ("taps", "top_k", "sampled", "views", "seed", "shard_size")
    options = {k: kwargs.pop(k) for k in names if k in kwargs}
    options = {"dtype": "float32", "shard_size": 20, **options}
    data = (images(),) if data is None else data
    return kd.TeacherCache(folder, **options).build(
        teacher, data, verbose=False, batch_size=16, **kwargs
    )


@pytest.fixture(scope="module")
def cache(teacher, tmp_path_factory):
    return build(tmp_path_factory.mktemp("cache"), teacher)


@pytest.fixture(scope="module")
def viewed(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewed")
    return build(folder, teacher, views=3, seed=4, augment=augment)


def collected(dataset):
    """Returns all `(x, targets, rest)` of one epoch."""
    found = [(x["inputs"], x["teacher_targets"], *r) for x, *r in dataset]
    return tf.nest.map_structure(
        lambda *parts: np.concatenate([np.asarray(p) for p in parts]), *found
    )


def assert_live(teacher, x, targets):
    """Compares targets with what the teacher says to the same pixels."""
    stored = targets["output"]["linear"]  # as the teacher ends in no softmax
    np.testing.assert_allclose(stored, teacher(x), atol=2e-6)


# Which data.


def test_arrays_meet_their_targets_in_shuffled_batches(cache, teacher):
    x, y = images(), labels()
    weight = np.arange(SAMPLES, dtype="float32")
    train = cache.attach((x, y, weight), batch_size=16, shuffle=True, seed=3)
    assert train.cardinality() == 4
    seen, targets, labels_seen, weights = collected(train)
    assert_live(teacher, seen, targets)
    order = weights.astype(int)
    assert not np.array_equal(order, np.arange(SAMPLES))
    np.testing.assert_array_equal(np.sort(order), np.arange(SAMPLES))
    np.testing.assert_array_equal(seen, x[order])
    np.testing.assert_array_equal(labels_seen, y[order])


def test_shuffling_differs_between_epochs_and_repeats_with_a_seed(cache):
    def epochs():
        data = cache.attach(
            (images(), np.arange(SAMPLES)), batch_size=8, shuffle=True, seed=1
        )
        return [collected(data)[2] for _ in range(2)]

    first, second = epochs(), epochs()
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_arrays_without_a_batch_size_give_single_samples(cache, teacher):
    train = cache.attach((images(), labels()))
    assert train.cardinality() == SAMPLES
    assert train.element_spec[0]["inputs"].shape == (SIDE, SIDE, 1)
    assert_live(teacher, *collected(train.shuffle(20).batch(8))[:2])


def test_inputs_alone_train(cache):
    train = cache.attach(images(), batch_size=16)
    assert len(next(iter(train))) == 1
    distiller = kd.Distiller(None, model(5), temperature=4.0, alpha=1.0)
    distiller.compile("sgd", run_eagerly=True).fit(train, verbose=0)


def test_subset_with_repeated_samples_meets_its_targets(cache, teacher):
    x = images()[[40, 3, 3, 17, 40, 0]]
    assert_live(teacher, *collected(cache.attach((x,), batch_size=4)))


def test_dataset_meets_its_targets_and_keeps_its_length(cache, teacher):
    dataset = tf.data.Dataset.from_tensor_slices((images(), labels()))
    train = cache.attach(dataset.shuffle(SAMPLES).batch(16))
    assert train.cardinality() == 4
    x, targets, _ = collected(train)
    assert_live(teacher, x, targets)


def test_py_dataset_meets_its_targets(cache, teacher):
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, number):
            rows = slice(10 * number, 10 * number + 10)
            return images()[rows], labels()[rows]

    train = cache.attach(Batches())
    assert train.cardinality() == 5
    assert_live(teacher, *collected(train)[:2])


def test_nested_inputs_meet_their_targets(tmp_path):
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    teacher = keras.Model({"a": a, "b": b}, keras.layers.Dense(3)(a + 2 * b))
    rng = np.random.default_rng(0)
    x = {k: rng.normal(size=(20, 2)).astype("float32") for k in "ab"}
    cache = build(tmp_path, teacher, (x,))
    train = cache.attach((x, np.zeros(20)), batch_size=6, shuffle=True)
    assert_live(teacher, *collected(train)[:2])


# Which targets.


def test_every_stored_tap_is_attached(teacher, tmp_path):
    cache = build(tmp_path, teacher, taps=("output", "hidden"))
    x, targets = collected(cache.attach((images(),), batch_size=16))
    hidden = kd.tap(teacher, ["hidden"])(x)["hidden"]
    np.testing.assert_allclose(targets["hidden"], hidden, atol=2e-6)
    assert_live(teacher, x, targets)


def test_targets_too_large_for_memory_are_read_from_disk(
    viewed, teacher, monkeypatch
):
    held = viewed.attach((images(),), batch_size=16)
    monkeypatch.setattr(lookup, "IN_MEMORY", 0)
    read = viewed.attach((images(),), batch_size=16)
    assert read.element_spec == held.element_spec
    tf.nest.map_structure(
        np.testing.assert_array_equal, collected(held), collected(read)
    )


@pytest.mark.parametrize(
    ("option", "keys"),
    [
        ({"top_k": 2}, {"ids", "log_probs", "tail"}),
        ({"sampled": 7}, {"ids", "weights", "temperature"}),
    ],
)
def test_sparse_targets_are_attached_and_train(option, keys, teacher, tmp_path):
    cache = build(tmp_path, teacher, **option)
    temperature = 1.0
    train = cache.attach((images(), labels()), batch_size=25)
    assert set(next(iter(train))[0]["teacher_targets"]["output"]) == keys
    distiller = kd.Distiller(None, model(5), temperature=temperature)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, run_eagerly=True)
    history = distiller.fit(train, verbose=0).history
    assert np.isfinite(history["loss"]).all()


# What is refused.


def run(dataset):
    for _ in dataset:
        pass


def test_unknown_sample_is_named_with_what_stands_at_its_place(cache):
    x = images()
    x[[37, 40]] += 1.0
    there = f"{cache.fingerprints[37]:#018x}"
    with pytest.raises(
        ValueError,
        match=f"(?s)Sample 37 .*the first of 2 such.*{there}.*augmented",
    ):
        cache.attach((x, labels()), batch_size=10)


def test_unknown_sample_of_a_stream_is_named_with_its_batch(cache):
    x = images()
    x[37] += 1.0
    dataset = tf.data.Dataset.from_tensor_slices((x, labels())).batch(10)
    there = f"{cache.fingerprints[37]:#018x}"
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=f"(?s)Sample 37 .*number 7 of its batch.*{there}.*augmented",
    ):
        run(cache.attach(dataset))


def test_unknown_sample_of_a_dataset_is_named_through_fit(cache):
    x = images()
    x[49] = 0.0
    dataset = tf.data.Dataset.from_tensor_slices((x, labels())).batch(15)
    distiller = kd.Distiller(None, model(5), temperature=4.0, alpha=1.0)
    with pytest.raises(Exception, match="Sample 49 of the data .number 4 of"):
        distiller.compile("sgd", run_eagerly=True)
        distiller.fit(cache.attach(dataset), verbose=0)


def test_rescaled_data_are_refused(cache):
    with pytest.raises(ValueError, match="rescaled"):
        cache.attach((images() * 255.0,), batch_size=10)


def test_data_set_of_single_samples_is_refused(cache, teacher, tmp_path):
    dataset = tf.data.Dataset.from_tensor_slices((images(), labels()))
    with pytest.raises(ValueError, match="of single samples"):
        cache.attach(dataset)
    inputs = dataset.map(lambda x, _: x)  # nothing but their shape tells
    with pytest.raises(ValueError, match="of single samples"):
        cache.attach(inputs)
    with pytest.raises(ValueError, match="of single samples"):
        kd.TeacherCache(tmp_path).build(teacher, inputs, verbose=0)
    with pytest.raises(ValueError, match=r"was built with.*Received: \(4,"):
        cache.attach(images()[:, :4])


def test_damaged_shard_is_refused(teacher, tmp_path):
    cache = build(tmp_path, teacher)
    path = tmp_path / "shards" / "00001" / "tap0.values.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="00001.*tap0.values.npy.*damaged"):
        cache.attach((images(),), batch_size=10)


@pytest.mark.parametrize(
    ("data", "kwargs", "text"),
    [
        ((), {}, "must be x"),
        ((1, 2, 3, 4), {}, "4 parts"),
        ((images(3), labels(2)), {}, r"length \[2, 3\]"),
        (tf.data.Dataset.range(3), {"shuffle": True}, "are for arrays"),
        (tf.data.Dataset.range(3), {}, "in batches"),
        (images(), {"augment": augment}, "built without `augment`"),
    ],
)
def test_attach_errors(cache, data, kwargs, text):
    with pytest.raises(ValueError, match=text):
        cache.attach(data, **kwargs)


# Views.


def test_views_meet_the_targets_of_their_own_pixels(viewed, teacher):
    train = viewed.attach((images(), labels()), batch_size=16, shuffle=True)
    for _ in range(4):
        x, targets, _ = collected(train)
        assert_live(teacher, x, targets)
    assert not np.isin(x[:, 0, 0, 0], images()).all()


def test_each_sample_shows_every_view_in_as_many_epochs(viewed):
    train = viewed.attach((images(), np.arange(SAMPLES)), batch_size=16)
    epochs = [collected(train) for _ in range(6)]
    for sample in range(SAMPLES):
        seen = [x[y == sample].tobytes() for x, _, y in epochs]
        assert len(set(seen[:3])) == 3
        assert seen[:3] == seen[3:]


def test_views_of_a_dataset_change_between_epochs(viewed, teacher):
    dataset = tf.data.Dataset.from_tensor_slices((images(), labels()))
    train = viewed.attach(dataset.batch(16))
    epochs = [collected(train) for _ in range(4)]
    for x, targets, _ in epochs:
        assert_live(teacher, x, targets)
    assert not np.array_equal(epochs[0][0], epochs[1][0])
    np.testing.assert_array_equal(epochs[0][0], epochs[3][0])


def test_views_of_a_repeated_dataset_change_as_it_repeats(viewed):
    dataset = tf.data.Dataset.from_tensor_slices((images(),))
    x, _ = collected(viewed.attach(dataset.batch(25).repeat(2)))
    assert not np.array_equal(x[:SAMPLES], x[SAMPLES:])


def test_views_of_an_opened_cache_need_the_same_augmentation(viewed, teacher):
    opened = kd.TeacherCache.open(viewed.directory)
    with pytest.raises(ValueError, match="Expected: .attach.data, augment"):
        opened.attach((images(),), batch_size=16)
    with pytest.raises(ValueError, match="not the function that this cache"):
        opened.attach((images(),), augment=lambda x, seed: x)
    train = opened.attach((images(),), batch_size=16, augment=augment)
    assert_live(teacher, *collected(train))


def test_augmentation_before_attach_is_refused(viewed):
    dataset = tf.data.Dataset.from_tensor_slices((images(), labels())).batch(9)
    dataset = dataset.map(lambda x, y: (tf.image.flip_left_right(x), y))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="to augment, give"
    ):
        run(viewed.attach(dataset))


def test_other_pixels_than_the_teacher_saw_are_refused(
    teacher, tmp_path, monkeypatch
):
    def augment(x, seed):  # reads what identity() does not look at
        return x + float(os.environ["BRIGHTER"])

    monkeypatch.setenv("BRIGHTER", "0.0")
    cache = build(tmp_path, teacher, augment=augment)
    run(cache.attach((images(),), batch_size=10))
    monkeypatch.setenv("BRIGHTER", "0.5")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="View 0 of sample 0 .*not the one"
    ):
        run(cache.attach((images(),), batch_size=10))


def test_build_refuses_an_augmentation_with_a_state(teacher, tmp_path):
    def augment(x, seed):
        return x + tf.random.uniform(())

    with pytest.raises(ValueError, match="not replayable"):
        build(tmp_path, teacher, augment=augment)


@pytest.fixture(scope="module")
def mixed_by(teacher, tmp_path_factory):
    """Returns the one cache of what a mixing makes."""

    @functools.cache
    def made(mixing):
        folder = tmp_path_factory.mktemp("mixed")
        return build(folder, teacher, views=2, augment=mixing)

    return made


MIXUP = Mixup(0.5)


@pytest.mark.parametrize("mixing", quick(1, [MIXUP, CutMix()]))
def test_mixed_views_meet_their_targets_and_labels(mixing, teacher, mixed_by):
    cache = mixed_by(mixing)
    x, y = images(), np.eye(SAMPLES, dtype="float32")
    train = cache.attach((x, y), batch_size=16, shuffle=True)
    for _ in range(2):
        seen, targets, mixed = collected(train)
        assert_live(teacher, seen, targets)
        if isinstance(mixing, Mixup):
            flat = x.reshape(SAMPLES, -1)
            np.testing.assert_allclose(
                mixed @ flat, seen.reshape(SAMPLES, -1), atol=1e-5
            )


def test_mixed_views_of_class_ids_and_streams_are_refused(
    teacher, mixed_by, tmp_path
):
    cache = mixed_by(MIXUP)
    with pytest.raises(ValueError, match="impossible with class ids"):
        cache.attach((images(), labels()), batch_size=16)
    dataset = tf.data.Dataset.from_tensor_slices((images(),)).batch(10)
    with pytest.raises(ValueError, match="Received: a stream"):
        cache.attach(dataset)
    with pytest.raises(ValueError, match="Received: a stream"):
        build(tmp_path / "stream", teacher, dataset, augment=Mixup())


def test_mixed_views_without_labels_train_on_the_teacher(teacher, tmp_path):
    cache = build(tmp_path, teacher, augment=Mixup(labels="none"))
    train = cache.attach((images(), labels()), batch_size=16)
    assert (collected(train)[2] == -1).all()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = kd.Distiller(teacher=None, student=model(5))
    distiller.compile("sgd", loss, run_eagerly=True)
    history = distiller.fit(train, verbose=0).history
    assert history["student_loss"] == [0.0]


# Training.


def test_training_on_attached_data_equals_a_live_teacher(cache, teacher):
    """Same order, same targets: the students end up the same."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    stored = kd.Distiller(teacher=None, student=model(5)).compile("sgd", loss)
    stored.fit(
        cache.attach((images(), labels()), batch_size=16), epochs=2, verbose=0
    )
    live = kd.Distiller(teacher, model(5))
    live.compile("sgd", loss, run_eagerly=True)
    live.fit(
        images(), labels(), batch_size=16, shuffle=False, epochs=2, verbose=0
    )
    for a, b in zip(
        stored.student.get_weights(), live.student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_training_with_views_equals_a_live_teacher_on_them(viewed, teacher):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    data = images(), labels()
    stored = kd.Distiller(teacher=None, student=model(5))
    stored.compile("sgd", loss, run_eagerly=True)
    stored.fit(viewed.attach(data, batch_size=16), epochs=3, verbose=0)
    again = viewed.attach(data, batch_size=16).map(
        lambda x, y: (x["inputs"], y)
    )
    live = kd.Distiller(teacher, model(5))
    live.compile("sgd", loss, run_eagerly=True)
    live.fit(again, epochs=3, verbose=0)
    for a, b in zip(
        stored.student.get_weights(), live.student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_attached_data_train_on_two_replicas(viewed):
    head = keras.layers.Dense(CLASSES)
    with two_replicas().scope():
        student = keras.Sequential(
            [keras.Input((SIDE, SIDE, 1)), keras.layers.Flatten(), head]
        )
        distiller = kd.Distiller(None, student, temperature=4.0, alpha=1.0)
        distiller.compile("sgd")
    train = viewed.attach((images(),), batch_size=10, shuffle=True)
    history = distiller.fit(train, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
