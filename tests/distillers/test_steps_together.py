# SPDX-License-Identifier: Apache-2.0
"""Steps of a `fit` run together where nobody looks at single ones."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from keras_kd.distillers.steps_together import counts_batches
from keras_kd.distillers.steps_together import steps_for
from keras_kd.distillers.steps_together import steps_together
from keras_kd.training.step_tuning import StepSettings
from replicas import two_replicas

X, Y = features(40), labels(40)
FIT = {"batch_size": 4, "shuffle": False, "verbose": 0}


class Counted(kd.Distiller):
    """Notes each trace of a step, and each call of several."""

    traces = calls = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)

    def make_train_function(self, force=False):
        is_new = self.train_function is None or force
        super().make_train_function(force)
        if is_new:
            run = self.train_function

            def counted(iterator):
                self.calls += 1
                return run(iterator)

            self.train_function = counted


def distiller(**compile_with):
    model = Counted(linear(seed=1), linear(seed=2), alpha=0.5)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    return model.compile(optimizer, cross_entropy(), **compile_with)


def test_fit_runs_steps_together_and_changes_no_bit():
    one, many = distiller(steps_per_execution=1), distiller()
    given = {"validation_data": (X, Y), "validation_steps": 3, **FIT}
    found = [
        model.fit(X, Y, epochs=2, **given).history for model in (one, many)
    ]
    assert found[0] == found[1]
    assert_same_weights(one.student, many.student)
    assert (one.calls, many.calls) == (2 * 10, 2)
    # What is measured, or trained on, afterwards is as it was.
    assert one.evaluate(X, Y, steps=3, verbose=0) == many.evaluate(
        X, Y, steps=3, verbose=0
    )
    assert many.predict(X, batch_size=4, steps=3, verbose=0).shape == (12, 3)
    traces = many.traces
    many.fit(X, Y, **FIT)
    assert (many.calls, many.traces) == (3, traces)
    ends = []
    hear = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(batch)
    )
    many.fit(X, Y, **FIT, callbacks=[hear])
    assert ends == list(range(10))


def test_settings_of_a_person_stay():
    model = distiller()
    StepSettings(False, 4).apply(model)
    model.fit(X, Y, **FIT)
    assert (model.calls, model.steps_per_execution) == (3, 4)
    StepSettings(False, 1).apply(model)
    model.fit(X, Y, **FIT)
    assert model.calls == 3 + 10


class Counting(keras.callbacks.Callback):
    def on_batch_end(self, batch, logs=None):
        self.batch = batch


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (Counting(), True),
        (keras.callbacks.LambdaCallback(on_train_batch_begin=print), True),
        (keras.callbacks.LambdaCallback(on_epoch_end=print), False),
        (keras.callbacks.ModelCheckpoint("x.keras", save_freq=3), True),
        (keras.callbacks.ModelCheckpoint("x.keras"), False),
        (keras.callbacks.TensorBoard("logs", update_freq=5), True),
        (keras.callbacks.TensorBoard("logs"), False),
        (keras.callbacks.EarlyStopping(), False),
        (keras.callbacks.TerminateOnNaN(), False),
    ],
)
def test_callback_that_acts_at_a_batch_is_known(callback, expected):
    assert counts_batches(callback) is expected
    given = {"x": X, "batch_size": 4, "callbacks": [callback]}
    assert steps_for(distiller(), given) == (1 if expected else 10)


BATCHES = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"x": kd.attach_targets(X, X)}, 2),
        ({"x": X, "batch_size": 4}, 10),
        ({"x": BATCHES}, 10),
        ({"x": BATCHES.repeat()}, 16),
        ({"x": BATCHES.filter(lambda *_: True)}, 16),
        ({"x": BATCHES.repeat(), "steps_per_epoch": 21}, 7),
        ({"x": iter([(X, Y)])}, 16),
    ],
)
def test_steps_of_an_epoch_are_known_or_do_not_matter(given, expected):
    assert steps_for(distiller(), given) == expected


def test_single_steps_run_where_they_are_looked_at():
    assert steps_for(distiller(run_eagerly=True), {"x": X}) == 1


@pytest.mark.parametrize(
    ("steps", "rounds_up", "together"),
    [(100, False, 16), (5, False, 5), (32, True, 16), (21, True, 7)]
    + [(17, True, 1), (17, False, 16), (-1, False, 16), (0, False, 1)],
)
def test_steps_together_never_lengthen_an_epoch(steps, rounds_up, together):
    strategy = tf.distribute.get_strategy()
    assert steps_together(steps, strategy, rounds_up) == together


def test_steps_do_not_run_together_on_two_replicas():
    assert steps_together(100, two_replicas()) == 1
