# SPDX-License-Identifier: Apache-2.0
"""Bad numbers in a step stop it with a message, and spare the student."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_kd as kd
from distillers.tiny import assert_same_weights
from distillers.tiny import cross_entropy
from distillers.tiny import features
from distillers.tiny import labels
from distillers.tiny import linear
from distillers.tiny import mlp
from keras_kd.targets.attached import attach_targets
from selection import quick
from selection import slow

X, Y = features(), labels()
FIT = {"batch_size": 6, "shuffle": False, "verbose": 0}

EAGER, XLA = {"run_eagerly": True}, {"jit_compile": True}
GRAPH = {"jit_compile": False}
MODES = [EAGER, XLA, GRAPH]


def with_modes(first, second, *quick_modes):
    """Pairs a number with the modes; another one repeats it but eagerly."""
    modes = [*quick_modes, *(m for m in MODES if m not in quick_modes)]
    pairs = quick(len(quick_modes), [(first, mode) for mode in modes])
    others = [(second, XLA), (second, GRAPH)]
    return [*pairs, (second, EAGER), *(slow(pair) for pair in others)]


class Spoilt(kd.teachers.Teacher):
    """Gives one bad number for inputs above a threshold."""

    activation = "linear"

    def __init__(self, bad):
        self.bad = bad

    def __call__(self, x):
        good = ops.repeat(x[:, :1], 3, axis=1)
        return {"output": ops.where(good > 50.0, self.bad, good)}


def spoilt_inputs(*rows):
    x = X.copy()
    x[list(rows), 0] = 99.0
    return x


def compiled(teacher, **mode):
    student = linear(seed=2)
    distiller = kd.Distiller(teacher, student, alpha=0.5)
    return distiller.compile(keras.optimizers.SGD(0.1), cross_entropy(), **mode)


def assert_finite(distiller):
    weights = distiller.student.get_weights()
    assert all(np.isfinite(w).all() for w in weights)


# As a graph: in an execution, below.
@pytest.mark.parametrize(
    ("bad", "mode"), with_modes(np.nan, np.inf, EAGER, XLA), ids=str
)
def test_guard_names_the_batch_of_a_teacher_that_fails(bad, mode):
    distiller = compiled(Spoilt(bad), **mode)
    message = r"NaN or Inf for 2 example\(s\) of batch 2 "
    with pytest.raises(ValueError, match=message):
        distiller.fit(spoilt_inputs(13, 16), Y, **FIT)
    assert_finite(distiller)


def test_guard_counts_batches_of_each_epoch_anew():
    distiller = compiled(Spoilt(np.nan), run_eagerly=True)
    distiller.fit(X, Y, epochs=2, **FIT)
    with pytest.raises(ValueError, match="of batch 3 of this epoch"):
        distiller.fit(spoilt_inputs(23), Y, **FIT)


def test_guard_names_the_batch_within_an_execution():
    distiller = compiled(
        Spoilt(np.nan), jit_compile=False, steps_per_execution=2
    )
    with pytest.raises(ValueError, match="of batch 3 of this epoch"):
        distiller.fit(spoilt_inputs(20), Y, **FIT)
    assert_finite(distiller)


def test_guard_lets_training_go_on_after_an_error():
    distiller = compiled(Spoilt(np.nan), run_eagerly=True)
    with pytest.raises(ValueError, match="NaN or Inf"):
        distiller.fit(spoilt_inputs(3), Y, **FIT)
    history = distiller.fit(X, Y, **FIT).history
    assert np.isfinite(history["loss"]).all()


def test_guard_checks_targets_that_come_with_the_data():
    targets = np.ones((len(X), 3), "float32")
    targets[8, 1] = np.nan
    distiller = compiled(None, run_eagerly=True)
    x = attach_targets(X, {"output": targets}, "logits")
    with pytest.raises(ValueError, match="NaN or Inf for 1 .* of batch 1 "):
        distiller.fit(x, Y, **FIT)
    assert_finite(distiller)


def batches(x, y):
    """A data set, whose values nobody sees before they come by."""
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(6)


# As a graph: in `evaluate`, below; by XLA it counts as above.
@pytest.mark.parametrize("mode", quick(1, MODES), ids=str)
def test_guard_names_the_batch_of_a_label_out_of_range(mode):
    distiller = compiled(linear(seed=1), **mode)
    for wrong in (3, -2, 0.5, np.nan):
        y = np.where(np.arange(len(Y)) == 7, wrong, Y).astype("float32")
        with pytest.raises(
            ValueError, match=r"1 label\(s\) of batch 1 .* out of range"
        ):
            distiller.fit(batches(X, y), shuffle=False, verbose=0)
        assert_finite(distiller)


# It looks at the weights after an epoch, whatever has run the steps.
@pytest.mark.parametrize(
    ("bad", "mode"), with_modes(np.nan, 3e38, EAGER), ids=str
)
def test_fit_does_not_end_well_with_weights_that_it_has_spoilt(bad, mode):
    """A ReLU may hide a NaN of the inputs from the loss."""
    x = X.copy()
    x[7, 1] = bad
    student = mlp(seed=1)
    distiller = kd.Distiller(Spoilt(0.0), student)
    distiller.compile("sgd", cross_entropy(), **mode)
    with pytest.raises(ValueError, match="NaN or infinity of weights .* 1;"):
        distiller.fit(batches(x, Y), epochs=3, shuffle=False, verbose=0)
    assert distiller.optimizer.iterations == 4  # one epoch


def test_fit_ends_well_where_a_callback_brings_the_weights_back():
    distiller = compiled(linear(seed=1), run_eagerly=True)
    best = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)

    class Spoiling(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                first = self.model.student.weights[0]
                first.assign(first * np.nan)

    callbacks = [Spoiling(), best]
    history = distiller.fit(X, Y, epochs=9, callbacks=callbacks, **FIT).history
    assert len(history["loss"]) == 2
    assert_finite(distiller)


def test_guard_checks_labels_in_evaluate_too():
    y = np.where(np.arange(len(Y)) == 7, 3, Y)
    distiller = compiled(linear(seed=1), jit_compile=False)
    with pytest.raises(ValueError, match=r"1 label\(s\) of batch 1 "):
        distiller.evaluate(X, y, batch_size=6, verbose=0)


class Subclassed(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x):
        return self.model(x)


# Which values are looked at by XLA, too, the test of a failing teacher shows.
@pytest.mark.parametrize("mode", quick(1, MODES), ids=str)
def test_guard_tells_probabilities_from_logits(mode):
    teacher = mlp(seed=1, activation="softmax")
    values = [
        compiled(teacher, **mode).fit(X, Y, **FIT).history["soft_targets"]
        for teacher, mode in ((Subclassed(teacher), mode), (teacher, EAGER))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("mode", quick(1, MODES), ids=str)
def test_guard_stops_at_values_that_could_be_either(mode):
    class Halves(kd.teachers.Teacher):
        def __call__(self, x):
            return {"output": 0.5 * ops.ones_like(x[:, :3])}

    distiller = compiled(Halves(), **mode)
    with pytest.raises(ValueError, match="batch 0 .*from 0.5 to 0.5"):
        distiller.fit(X, Y, **FIT)
    assert_finite(distiller)


def test_guard_is_in_no_checkpoint():
    distiller = compiled(linear(seed=1), run_eagerly=True)
    student = distiller.student
    distiller.fit(X, Y, **FIT)
    saved = {id(variable) for variable in distiller.variables}
    assert saved == {id(variable) for variable in student.variables}
    assert_same_weights(distiller, student)
