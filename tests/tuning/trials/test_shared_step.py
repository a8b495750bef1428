# SPDX-License-Identifier: Apache-2.0
"""Trials in one compiled step end as each would alone."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from distillers import tiny
from distillers.tiny import assert_same_weights
from keras_kd.tuning.trials.decay import DecayFromPeak
from keras_kd.tuning.trials.shared_step import key_of
from replicas import two_replicas
from selection import quick
from tuning import tiny_search
from tuning.tiny_search import Traced
from tuning.tiny_search import build_student
from tuning.tiny_search import settings
from tuning.tiny_search import train

TRIALS = [
    {"temperature": 2.0, "alpha": 0.5, "learning_rate": 1e-3},
    {"temperature": 9.0, "alpha": 0.9, "learning_rate": 1e-2},
    {"temperature": 1.0, "alpha": 0.0, "learning_rate": 3e-3},
    {"temperature": 5.0, "alpha": 1.0, "learning_rate": 1e-4},
]


def hyper(**kwargs):
    teacher = kwargs.pop("teacher", None) or tiny.mlp(width=16)
    build = kwargs.pop("build_student", build_student)
    return kd.HyperDistiller(teacher, build, **kwargs)


def same_trial(**kwargs):
    """Returns the last of several trials, and the same one trained alone."""
    teacher = tiny.mlp(width=16, seed=5)
    arguments = {"teacher": teacher, **kwargs}
    shared, alone = hyper(**arguments), hyper(**arguments, share_steps=False)
    for seed, values in enumerate(TRIALS[:2]):
        last = train(shared, settings(**values), seed)
    return last, train(alone, settings(**TRIALS[1]), 1)


def losses_with_projector(hp):
    between = kd.losses.FeatureMatching(
        "hidden", "hidden", projector="auto", weight=hp.Float("w", 0.1, 2.0)
    )
    return [kd.losses.SoftTargets(), between]


@pytest.mark.parametrize(
    "kwargs",
    quick(1, [{}, {"steps": 8, "distillation_losses": losses_with_projector}]),
    ids=["plain", "projector and decay"],
)
def test_shared_trial_equals_one_trained_alone(kwargs):
    shared, alone = same_trial(**kwargs)
    assert_same_weights(shared, alone)
    for ours, theirs in zip(
        [*shared.variables, *shared.optimizer.variables],
        [*alone.variables, *alone.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.slow
def test_shared_trial_in_half_precision_equals_one_trained_alone():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert_same_weights(*same_trial())
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
def test_shared_trial_on_two_replicas_equals_one_trained_alone():
    strategy = two_replicas()
    with strategy.scope():
        shared, alone = same_trial()
    assert shared.distribute_strategy is strategy
    assert_same_weights(shared, alone)


def test_trials_of_one_architecture_are_traced_once():
    distillation = hyper(steps=8, distillation_losses=losses_with_projector)
    counts = []
    for number, values in enumerate(TRIALS):
        # As KerasTuner does before each build.
        keras.utils.clear_session(free_memory=False)
        weight = 0.1 + number / 2
        train(distillation, settings(w=weight, **values), number)
        counts.append(Traced.count)
    assert counts[0] > 0
    assert counts[1:] == [0, 0, 0]


@pytest.mark.slow
def test_making_the_shared_step_draws_no_seed():
    drawn = []
    for share in (True, False):
        train(hyper(share_steps=share), settings(), epochs=1)
        drawn.append((random.random(), np.random.rand()))
    assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_later_trial_leaves_the_earlier_model_alone():
    distillation = hyper()
    first = train(distillation, settings(**TRIALS[0]))
    before = first.get_weights()
    second = train(distillation, settings(**TRIALS[1]))
    assert_same_weights(first.get_weights(), before)
    assert first.alpha == 0.5
    assert second.alpha == 0.9
    assert second.history.model is second


@pytest.mark.slow
def test_weights_given_before_fit_are_trained_on():
    """As a checkpoint that was loaded into the model."""
    distillation = hyper(learning_rate=1e-30)
    train(distillation, settings(learning_rate=1e-30))
    distiller = distillation.build(settings(learning_rate=1e-30))
    weights = [np.ones_like(w) for w in distiller.get_weights()]
    distiller.set_weights(weights)
    begun = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(epoch)
    )
    history = distillation.fit(
        settings(),
        distiller,
        tiny_search.X,
        y=tiny_search.Y,
        initial_epoch=2,
        epochs=4,
        callbacks=[spy],
        verbose=0,
    )
    assert begun == [2, 3]
    assert history.epoch == [2, 3]
    assert_same_weights(distiller.get_weights(), weights, tolerance=1e-6)


@pytest.mark.slow
def test_trial_after_callback_that_changed_the_step_equals_one_alone():
    class Freeze(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            self.model.student.get_layer("hidden").trainable = False

    teacher = tiny.mlp(width=16, seed=5)
    shared = hyper(teacher=teacher)
    train(shared, settings(**TRIALS[0]), callbacks=[Freeze()])
    alone = hyper(teacher=teacher, share_steps=False)
    assert_same_weights(
        train(shared, settings(**TRIALS[1]), 1),
        train(alone, settings(**TRIALS[1]), 1),
    )


def functional(skip_from, names=("a", "b"), rate=0.3):
    x = keras.Input((tiny.FEATURES,))
    a = keras.layers.Dense(4, activation="relu", name=names[0])(x)
    b = keras.layers.Dense(4, activation="relu", name=names[1])(a)
    added = keras.layers.Dropout(rate)(b + {"a": a, "b": b}[skip_from])
    return keras.Model(x, keras.layers.Dense(tiny.CLASSES)(added))


def key(build, **kwargs):
    return key_of(hyper(build_student=build, **kwargs).build(settings()))


def test_key_tells_steps_apart():
    teacher = tiny.mlp()
    variants = [
        {"build": lambda: functional("a")},
        {"build": lambda: functional("b")},
        {"build": lambda: functional("a", rate=0.4)},
        {"build": lambda: functional("a"), "steps": 5},
        {"build": lambda: functional("a"), "steps": 6},
        {"build": lambda: functional("a"), "metrics": ["mse"]},
        {"build": lambda: functional("a"), "distillation_losses": "decoupled"},
        {
            "build": lambda: functional("a"),
            "distillation_losses": kd.losses.SoftTargets(warm_up_steps=3),
        },
    ]
    keys = [key(teacher=teacher, **variant) for variant in variants]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_key_passes_over_names_and_numbers():
    teacher = tiny.mlp()
    assert (
        key(lambda: functional("a"), teacher=teacher)
        == key(lambda: functional("a", names=("c", "d")), teacher=teacher)
        == key(lambda: functional("a"), teacher=teacher, temperature=2.0)
    )


class NoConfig(keras.Model):
    def __init__(self, width, function):
        super().__init__()
        self.dense = keras.layers.Dense(tiny.CLASSES)
        self.function = function
        self.build((None, tiny.FEATURES))

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, x):
        return self.function(self.dense(x))


@pytest.mark.usefixtures("eager")
def test_key_of_student_that_cannot_be_described_is_none():
    def build():
        return NoConfig(3, lambda x: 2 * x)

    loss = tiny.cross_entropy()
    distillation = hyper(build_student=build, loss=loss)
    assert key_of(distillation.build(settings())) is None
    train(distillation, settings())


@pytest.mark.usefixtures("eager")
def test_key_with_teacher_that_follows_its_student_is_none():
    teacher = kd.teachers.EMATeacher(0.5)
    distillation = hyper(teacher=teacher)
    assert key_of(distillation.build(settings())) is None
    distiller = train(distillation, settings())
    assert teacher.model is not None
    assert int(distiller.optimizer.iterations) == 8


@pytest.mark.slow
def test_shared_steps_keep_those_used_last():
    distillation = hyper(
        build_student=lambda hp: tiny.mlp(width=hp.Int("width", 1, 9))
    )
    for width in (1, 2, 3, 4, 1, 5):
        train(distillation, settings(width=width), epochs=1)
    widths = [
        shared.student.get_layer("hidden").units
        for shared in distillation._shared._distillers.values()
    ]
    assert widths == [3, 4, 1, 5]


def test_decay_equals_that_of_keras():
    ours = DecayFromPeak(0.03, 7)
    theirs = keras.optimizers.schedules.CosineDecay(0.03, 7)
    for step in range(10):
        assert float(ours(step)) == float(theirs(step))
    config = keras.optimizers.schedules.serialize(ours)
    twin = keras.optimizers.schedules.deserialize(config)
    assert float(twin(3)) == float(theirs(3))


def test_decay_changes_its_peak_without_a_trace():
    decay, traces = DecayFromPeak(0.5, 10), []

    @tf.function
    def rate(step):
        traces.append(1)
        return decay(step)

    rate(tf.constant(0))
    decay.peak = 2.0
    assert float(rate(tf.constant(0))) == 2.0
    assert len(traces) == 1
