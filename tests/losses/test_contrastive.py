# SPDX-License-Identifier: Apache-2.0
"""Contrastive: its memory, its wiring, and what it teaches."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import mlp
from keras_kd.losses import Contrastive
from keras_kd.losses.contrastive_memory import NOBODY
from keras_kd.losses.contrastive_memory import ContrastiveMemory
from keras_kd.recipes import digits
from replicas import two_replicas
from selection import quick

RNG = np.random.default_rng(0)
X, Y = features(), labels()
INDEX = np.arange(len(X))
# As a graph it runs where it trains, below.
MODES = pytest.mark.parametrize("jit_compile", quick(2, [None, True, False]))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def memory_layer(teacher_shape=(None, 5), student_shape=(None, 3), **settings):
    settings = {"features": 4, "memory": 7, "negatives": 6, **settings}
    layer = ContrastiveMemory(**settings)
    layer.build(teacher_shape, student_shape)
    return layer


def taps(*index):
    """Returns a batch: both taps, and which samples they are."""
    return (
        RNG.normal(size=(len(index), 5)).astype("float32"),
        RNG.normal(size=(len(index), 3)).astype("float32"),
        np.array(index),
    )


def copy_state(source, target):
    """Copies all there is, what random generators hold included."""
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)


def runner(layer, jit_compile):
    """Returns the layer as a function: eager, a graph, or by XLA."""
    if jit_compile is None:
        return layer
    return tf.function(lambda *a: layer(*a), jit_compile=jit_compile)


class Twin:
    """The memory again, in float64, sample by sample."""

    def __init__(self, layer):
        self.heads = [
            [np.asarray(w, "float64") for w in head.get_weights()]
            for head in (layer.teacher_head, layer.student_head)
        ]
        banks = (layer.teacher_bank, layer.student_bank)
        self.banks = [np.asarray(bank).astype("float64") for bank in banks]
        self.owner = [None] * layer.memory
        self.tau, self.momentum = layer.tau, layer.momentum

    def step(self, *batch):
        """Returns `(own, every)` similarities over tau, then writes."""
        embeddings = [
            unit(tap @ kernel + bias)
            for tap, (kernel, bias) in zip(batch[:2], self.heads, strict=True)
        ]
        own, every, writes = [], [], []
        for n, i in enumerate(batch[2]):
            row = i % len(self.owner)
            now = [vectors[n] for vectors in embeddings]
            old = [bank[row] for bank in self.banks]
            if self.owner[row] not in (None, i):
                old = now
            own.append([now[1] @ old[0], now[0] @ old[1]])
            every.append([self.banks[0] @ now[1], self.banks[1] @ now[0]])
            share = self.momentum
            new = [
                unit(share * a + (1 - share) * b)
                for a, b in zip(old, now, strict=True)
            ]
            writes.append((row, i, new))
        for row, i, (teacher, student) in writes:
            self.banks[0][row], self.banks[1][row] = teacher, student
            self.owner[row] = i
        return np.array(own) / self.tau, np.array(every) / self.tau


@MODES
def test_memory_follows_its_twin_through_three_batches(jit_compile):
    layer = memory_layer(tau=0.2, momentum=0.3)
    twin, run = Twin(layer), runner(layer, jit_compile)
    log_mean = None
    for batch in (
        taps(0, 3, 5, 12),  # 12 takes the row of 5 in the same batch
        taps(3, 5, 10, 3),  # 3 again, twice; 5 finds 12; 10 finds 3
        taps(10, 5, 6, 1),
    ):
        received = np.asarray(run(*batch))
        own, every = twin.step(*batch)
        if log_mean is None:
            log_mean = np.asarray(layer.log_mean)
        received = received + log_mean[:, None]
        np.testing.assert_allclose(received[:, :, 0], own, atol=1e-5)
        # Each other column is one of the rows but its own.
        for n, i in enumerate(batch[2]):
            rest = np.delete(every[n], i % 7, axis=-1)
            gap = abs(received[n, :, 1:, None] - rest[:, None, :])
            assert gap.min(axis=-1).max() < 1e-5
            assert (gap.argmin(axis=-1)[0] == gap.argmin(axis=-1)[1]).all()
        for bank, expected in zip(
            (layer.teacher_bank, layer.student_bank), twin.banks, strict=True
        ):
            np.testing.assert_allclose(bank, expected, atol=1e-6)
        owner = [NOBODY if i is None else i for i in twin.owner]
        assert np.asarray(layer.owner).tolist() == owner
        np.testing.assert_array_equal(layer.log_mean, log_mean)


def test_ratios_have_a_mean_of_one_in_the_first_batch_only():
    layer = memory_layer()
    batch = taps(0, 1, 2)
    first, second = (np.exp(np.asarray(layer(*batch))) for _ in range(2))
    np.testing.assert_allclose(first.mean(axis=(0, 2)), 1.0, rtol=1e-5)
    assert abs(second.mean(axis=(0, 2)) - 1.0).min() > 0.01


def test_negatives_are_drawn_evenly_from_all_other_rows_in_use():
    layer = memory_layer(memory=50, negatives=20000)
    drawn = np.asarray(layer._draw(tf.constant([0, 2, 6], "int64")))
    for row, ids in zip((0, 2, 6), drawn, strict=True):
        counts = np.bincount(ids, minlength=50)
        others = np.delete(np.arange(7), row)
        assert counts[others].sum() == 20000  # rows 7 to 49 are not in use
        assert abs(counts[others] - 20000 / 6).max() < 5 * np.sqrt(20000 / 6)
    first = tf.constant([0], "int64")
    assert (np.asarray(layer._draw(first)) == 1).all()
    layer.owner.assign(np.arange(50))
    assert set(np.asarray(layer._draw(first)).flat) == set(range(1, 50))


@pytest.mark.parametrize("jit_compile", quick(1, [False, True]))
def test_zero_taps_have_finite_gradients(jit_compile):
    layer, compare = memory_layer(), Contrastive()

    @tf.function(jit_compile=jit_compile)
    def step(*batch):
        with tf.GradientTape() as tape:
            loss = compare(0.0, layer(*batch))
        return loss, tape.gradient(loss, layer.trainable_weights)

    batch = [np.zeros_like(tap) for tap in taps(0, 1)[:2]]
    loss, gradients = step(*batch, np.array([0, 1]))
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in gradients)
    assert np.isfinite(layer.teacher_bank).all()


def test_gradient_reaches_both_heads_but_not_the_teacher():
    layer = memory_layer()
    teacher, student, index = taps(0, 1, 2)
    teacher, student = tf.constant(teacher), tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch((teacher, student))
        loss = Contrastive()(teacher, layer(teacher, student, index))
    weights = layer.trainable_weights
    into_teacher, *into = tape.gradient(loss, [teacher, student, *weights])
    assert into_teacher is None
    assert len(weights) == 4
    assert all(abs(np.asarray(g)).max() > 0.0 for g in into)


def test_maps_are_averaged_over_positions():
    wide = memory_layer(teacher_shape=(None, 2, 3, 5))
    flat = memory_layer()
    copy_state(wide, flat)
    maps = RNG.normal(size=(4, 2, 3, 5)).astype("float32")
    _, student, index = taps(0, 1, 2, 3)
    received = wide(maps, student, index)
    expected = flat(maps.mean(axis=(1, 2)), student, index)
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_overflow_is_not_remembered():
    layer = memory_layer()
    before = np.asarray(layer.teacher_bank).copy()
    teacher, student, index = taps(0, 1, 8)
    teacher[0, 0], teacher[2] = np.inf, np.nan  # of 1 and 8, only 1 can write
    layer(teacher, student, index)
    after = np.asarray(layer.teacher_bank)
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(after[0], before[0])
    assert np.asarray(layer.owner).tolist() == [-1, 1, -1, -1, -1, -1, -1]
    assert not layer.has_mean.numpy()
    layer(*taps(0, 1, 2))
    assert layer.has_mean.numpy() and np.isfinite(layer.log_mean).all()


# In a distiller.


def make_distiller(
    teacher="own",
    learning_rate=0.05,
    jit_compile=False,
    run_eagerly=False,
    **settings,
):
    settings = {"features": 6, "negatives": 16, "memory": len(X), **settings}
    distiller = kd.Distiller(
        mlp(width=12, seed=1) if teacher == "own" else teacher,
        mlp(seed=2),
        distillation_losses=[
            kd.losses.SoftTargets(2.0),
            Contrastive("hidden", "hidden", **settings),
        ],
    )
    return distiller.compile(
        keras.optimizers.SGD(learning_rate),
        cross_entropy(),
        jit_compile=jit_compile,
        run_eagerly=run_eagerly,
    )


def fit(distiller, targets=None, epochs=2, **kwargs):
    x = kd.attach_targets(X, {"sample_index": INDEX, **(targets or {})})
    return distiller.fit(
        x, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **kwargs
    ).history


@pytest.mark.slow
def test_attached_taps_teach_what_a_live_teacher_teaches():
    live, attached = make_distiller(), make_distiller(teacher=None)
    targets = kd.tap(live.teacher, ["output", "hidden"]).predict(X, verbose=0)
    attached(kd.attach_targets(X, targets))  # makes the projectors
    copy_state(live, attached)
    history, again = fit(live), fit(attached, targets)
    assert_same_weights(live, attached, tolerance=1e-5)
    for key, values in history.items():
        assert again[key] == pytest.approx(values, rel=1e-4), key


def test_memory_without_sample_index_is_refused():
    with pytest.raises(ValueError, match="Attach their indices"):
        make_distiller().fit(X, Y, verbose=0)


def test_saved_distiller_goes_on_where_it_stopped(tmp_path):
    distiller = make_distiller(run_eagerly=True)
    fit(distiller, epochs=1)
    distiller.save(tmp_path / "distiller.keras")
    copy = keras.saving.load_model(tmp_path / "distiller.keras")
    assert_same_weights(distiller, copy)
    assert (np.asarray(copy.projectors["contrastive"].owner) == INDEX).all()
    copy.teacher = distiller.teacher
    states = (
        d.projectors["contrastive"].seeds.state for d in (copy, distiller)
    )
    next(states).assign(next(states))  # Keras saves no random generators
    history = fit(distiller, epochs=1)
    for key, values in fit(copy, epochs=1).items():
        assert values == pytest.approx(history[key], rel=1e-5), key
    assert_same_weights(distiller, copy, tolerance=1e-6)


def test_memory_is_no_part_of_the_student():
    distiller = make_distiller(features=6, memory=1000)
    assert sum(w.size for w in distiller.get_weights()) > 2 * 6 * 1000
    assert sum(w.size for w in distiller.student.get_weights()) == 67


def test_temperature_of_the_distiller_leaves_tau_alone():
    distiller = make_distiller()
    distiller.temperature = 9.0
    assert distiller.projectors["contrastive"].tau == 0.07
    assert distiller.distillation_losses[1].tau == 0.07


@pytest.mark.slow
def test_mixed_precision_and_xla_keep_the_memory_in_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        distiller = make_distiller(jit_compile=True)
        history = fit(distiller)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    layer = distiller.projectors["contrastive"]
    assert {w.dtype for w in layer.trainable_weights} == {"float32"}
    lengths = np.linalg.norm(layer.student_bank, axis=-1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-6)


@pytest.mark.slow
def test_two_replicas_hold_one_memory():
    with two_replicas().scope():
        two = make_distiller(memory=17, learning_rate=0.0)
    one = make_distiller(memory=17, learning_rate=0.0)
    copy_state(one, two)
    single = one.projectors["contrastive"]
    mirrored = two.projectors["contrastive"]
    fit(one), fit(two)  # the heads stay, so all remember the same
    assert two.distribute_strategy.num_replicas_in_sync == 2
    np.testing.assert_array_equal(single.owner, mirrored.owner)
    for name in ("teacher_bank", "student_bank"):
        banks = getattr(single, name), getattr(mirrored, name)
        np.testing.assert_allclose(*banks, atol=1e-5)
    two.optimizer.learning_rate = 0.05
    losses = fit(two, epochs=4)["contrastive"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    for name in ("teacher_bank", "student_bank", "owner", "log_mean"):
        copies = getattr(mirrored, name).value.values
        np.testing.assert_array_equal(*[copy.numpy() for copy in copies])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 0}, "`features` must be an integer of at least 1"),
        ({"negatives": 0.5}, "`negatives` must be an integer of at least 1"),
        ({"memory": 1}, "`memory` must be an integer of at least 2"),
        ({"tau": 0.0}, "`tau` must be positive"),
        ({"momentum": 1.0}, "`momentum` in"),
        ({"projector": None}, "makes its own projector"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Contrastive(**arguments)


@pytest.mark.parametrize("shape", [(None,), (None, 3, None), [(None, 3)] * 2])
def test_taps_without_known_features_are_refused(shape):
    with pytest.raises(ValueError, match="with a known number of features"):
        Contrastive().make_projector(shape, (None, 3), "contrastive")


def test_taps_in_place_of_ratios_are_refused():
    with pytest.raises(ValueError, match="log-ratios that its projector"):
        Contrastive().check_shapes((None, 5), (None, 5))


def rank_of_own_pair(layer, teacher, student):
    """Returns the mean share of others that lie farther than the own pair."""
    teacher = unit(np.asarray(layer.teacher_head(teacher)))
    student = unit(np.asarray(layer.student_head(student)))
    similarity = student @ teacher.T
    own = np.diag(similarity)[:, None]
    return (similarity < own).sum() / similarity.size


@pytest.mark.slow
def test_digits_student_finds_the_teachers_embedding_of_a_new_scan():
    data = digits.load_teacher_data()
    (x, y), (x_test, y_test) = data.train, data.test
    teacher, student = digits.build_teacher(), digits.build_student()
    names = [model.layers[-2].name for model in (teacher, student)]
    teacher.compile("adam", cross_entropy(), jit_compile=False)
    teacher.fit(x, y, batch_size=32, epochs=3, verbose=0)
    teacher_taps = kd.tap(teacher, ["output", names[0]])
    distiller = kd.Distiller(
        teacher,
        student,
        alpha=0.9,
        distillation_losses=[
            kd.losses.SoftTargets(4.0),
            Contrastive(*names, features=64, negatives=256, memory=2048),
        ],
    )
    distiller.compile(
        keras.optimizers.Adam(1e-2),
        cross_entropy(),
        metrics=["accuracy"],
        jit_compile=False,
    )

    def rank():
        return rank_of_own_pair(
            distiller.projectors["contrastive"],
            teacher_taps.predict(x_test, verbose=0)[names[0]],
            kd.tap(student, names[1:]).predict(x_test, verbose=0)[names[1]],
        )

    before = rank()
    targets = teacher_taps.predict(x, verbose=0)
    targets["sample_index"] = np.arange(len(x))
    inputs = kd.attach_targets(x, targets)
    history = distiller.fit(inputs, y, batch_size=64, epochs=10, verbose=0)
    scores = distiller.evaluate(x_test, y_test, verbose=0, return_dict=True)
    losses = history.history["contrastive"]
    assert losses[-1] < 0.8 * losses[0]
    assert 0.2 < before < 0.8
    assert rank() > 0.85
    assert scores["accuracy"] > 0.8
