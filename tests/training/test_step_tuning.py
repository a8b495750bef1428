# SPDX-License-Identifier: Apache-2.0
"""fastest_step() measures, says so, and leaves no trace in the training."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.training import step_tuning
from keras_kd.training.step_tuning import StepSettings
from replicas import two_replicas
from selection import quick

rng = np.random.default_rng(0)
X = rng.normal(size=(76, 4)).astype("float32")
Y = X[:, :3].argmax(axis=1).astype("int32")
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3),
        ]
    )


def compiled(model, **kwargs):
    # With a state, as Adam, but traced in a third of the time.
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    kwargs = {"loss": CROSS_ENTROPY, "metrics": ["accuracy"], **kwargs}
    model.compile(optimizer, **kwargs)
    return model


def plain(**kwargs):
    return compiled(build(), **kwargs)


def linear():
    """The least to trace."""
    layer = keras.layers.Dense(3, use_bias=False)
    return compiled(keras.Sequential([keras.Input((4,)), layer]), metrics=None)


def distiller(**kwargs):
    return compiled(kd.Distiller(build(), build()), **kwargs)


def following(**kwargs):
    """A teacher with a state of its own, which no model holds."""
    teacher = kd.teachers.EMATeacher(0.9)
    return compiled(kd.Distiller(teacher, build()), **kwargs)


def mutual(**kwargs):
    return compiled(kd.MutualDistiller([build(), build()]), **kwargs)


def lazily_built(**kwargs):
    model = keras.Sequential([keras.layers.Dense(8), keras.layers.Dense(3)])
    return compiled(model, **kwargs)


FOUR = StepSettings(False, 4)
MODELS = [plain, distiller, following, mutual, lazily_built]


def train(make, between=lambda model: None, data=(X, Y), **kwargs):
    """Trains from one seed; returns all weights, and the history."""
    keras.utils.set_random_seed(0)
    model = make(**kwargs)
    between(model)
    size = {"batch_size": 8} if isinstance(data, tuple) else {"shuffle": False}
    data = data if isinstance(data, tuple) else (data,)
    history = model.fit(*data, **size, epochs=2, verbose=0).history
    weights = [variable.numpy() for variable in model.variables]
    return weights + [np.array(values) for values in history.values()]


def measured(model, data=(X, Y), **kwargs):
    kwargs = {"steps": 4, "verbose": False, "candidates": (1, 4), **kwargs}
    return kd.fastest_step(model, data, batch_size=8, **kwargs)


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", quick(1, MODELS))
def test_training_after_it_is_equal_to_the_bit(make):
    """Shuffled arrays, dropout, running means and the optimizer's state.

    And in executions of 4 steps; of 10 batches the last one is shorter.
    """

    def measured_and_set(model):
        measured(model)
        FOUR.apply(model)

    assert_equal(train(make), train(make, measured_and_set))


@pytest.mark.slow
def test_training_goes_on_as_if_nothing_had_been_measured():
    def trained_before(model):
        model.fit(X, Y, batch_size=8, verbose=0)

    def and_measured(model):
        trained_before(model)
        measured(model, exact=False)

    expected = train(distiller, trained_before)
    assert_equal(expected, train(distiller, and_measured))


@pytest.mark.slow
def test_training_on_another_attached_set_is_equal_to_the_bit(tmp_path):
    cache = kd.TeacherCache(tmp_path / "labels")
    cache.build(build(), (X, Y), verbose=False)

    def attached():
        return cache.attach((X, Y), batch_size=8, shuffle=True, seed=0)

    def make():
        return compiled(kd.Distiller(None, build()))

    def between(model):
        measured(model, attached())

    assert_equal(train(make, data=attached()), train(make, between, attached()))


@pytest.mark.slow
def test_settings_and_counters_are_put_back():
    model = distiller(steps_per_execution=2)
    model._guard.batch = 5
    measured(model)
    assert (model.steps_per_execution, model.jit_compile) == (2, False)
    assert model._guard.batch == 5
    assert model.train_function is None
    for value in model._log.result().values():
        assert float(value) == 0.0


@pytest.mark.slow
def test_candidate_that_does_not_run_is_left_out_under_two_replicas():
    """There Keras cannot run several steps in one execution."""
    with two_replicas().scope():
        model = compiled(build())
    before = [np.copy(v) for v in model.get_weights()]
    found = measured(model)
    assert found.steps_per_execution == 1
    assert set(found.speedups) == {"steps_per_execution=1"}
    assert "steps_per_execution=4 left out (" in str(found)
    assert_equal(before, model.get_weights())


def test_data_set_is_begun_once():
    begun = []

    def batches():
        begun.append(1)
        yield from ((X[at : at + 8], Y[at : at + 8]) for at in range(0, 72, 8))

    specs = tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int32)
    data = tf.data.Dataset.from_generator(batches, output_signature=specs)
    measured(linear(), data)
    assert len(begun) == 1


@pytest.mark.slow
def test_bad_data_raises_and_everything_is_put_back():
    y = Y.copy()
    y[3] = 7
    model = distiller(steps_per_execution=2)
    before = [np.copy(v) for v in model.student.get_weights()]
    with pytest.raises(ValueError, match="1 label.* of batch 0 "):
        measured(model, (X, y))
    assert_equal(before, model.student.get_weights())
    assert (model.steps_per_execution, model._guard.batch) == (2, 0)


# Of a teacher's answers, test_guard.py shows it.
@pytest.mark.slow
@pytest.mark.parametrize("make", [distiller, mutual])
def test_guard_names_the_batch_of_a_bad_label_in_an_execution(make):
    y = Y.copy()
    y[42] = 7  # in batch 5 of 8 samples each
    model = make()
    FOUR.apply(model)
    batches = tf.data.Dataset.from_tensor_slices((X, y)).batch(8)
    with pytest.raises(ValueError, match="1 label.* of batch 5 "):
        model.fit(batches, shuffle=False, verbose=0)


def test_callbacks_hear_of_each_execution_once():
    ends = []
    hear = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(batch)
    )
    model = distiller()
    FOUR.apply(model)
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[hear])
    assert ends == [3, 7, 11]  # of 10 batches
    assert int(model.optimizer.iterations) == 10


@pytest.mark.slow
def test_warm_up_of_a_loss_counts_steps_not_executions():
    def make():
        loss = kd.losses.SoftTargets(2.0, warm_up_steps=7)
        return compiled(
            kd.Distiller(build(), build(), distillation_losses=loss)
        )

    assert_equal(train(make), train(make, FOUR.apply))


# What is chosen.


def slowed(monkeypatch, seconds):
    """Replaces the clock: seconds of a step by setting."""

    def timer(model, batches, steps, jit_compile, number):
        return lambda _: seconds[jit_compile, number]

    monkeypatch.setattr(step_tuning, "_timer", timer)


@pytest.mark.parametrize(
    ("eight", "expected"), quick(1, [(0.98, 1), (0.96, 8), (0.5, 8), (1.5, 1)])
)
def test_another_setting_must_be_three_percent_faster(
    monkeypatch, eight, expected
):
    slowed(monkeypatch, {(False, 1): 1.0, (False, 8): eight})
    found = measured(plain(), candidates=(1, 8))
    assert found.steps_per_execution == expected
    name = "steps_per_execution=8"
    assert found.speedups[name] == pytest.approx(1 / eight)
    assert f"{name} {1 / eight:.2f}x" in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("xla", [0.5, 5.0])
def test_xla_is_chosen_only_where_it_is_faster(monkeypatch, xla):
    seconds = {(False, 1): 1.0, (False, 8): 0.8}
    seconds |= {(True, 1): 1.0 * xla, (True, 8): 0.8 * xla}
    slowed(monkeypatch, seconds)
    model = plain()
    found = measured(model, candidates=(8,), exact=False)
    assert found.jit_compile == (xla < 1)
    chosen = f"steps_per_execution=8{' with XLA' * (xla < 1)}"
    assert str(found).startswith(f"step: {chosen} (")
    assert f"8 with XLA {1 / (0.8 * xla):.2f}x" in str(found)
    monkeypatch.undo()
    found.apply(model)
    model.fit(X, Y, batch_size=8, verbose=0)
    assert model.jit_compile == (xla < 1)


def test_exact_leaves_xla_out(monkeypatch):
    slowed(monkeypatch, {(False, 1): 1.0, (True, 1): 0.5})
    found = measured(linear(), candidates=(1,))
    assert not any("XLA" in name for name in found.speedups)


@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile")
def test_xla_is_left_out_where_a_layer_does_not_support_it():
    model = linear()
    model.layers[0].supports_jit = False
    found = measured(model, candidates=(1,), exact=False)
    assert not found.jit_compile
    assert "1 with XLA left out ('the model does not support it')" in str(found)


def test_xla_is_left_out_where_it_does_not_compile():
    class OnTheHost(keras.layers.Layer):
        def call(self, x):
            found = tf.numpy_function(np.asarray, [x], tf.float32)
            return tf.ensure_shape(found, x.shape)

    model = compiled(
        keras.Sequential(
            [keras.Input((4,)), OnTheHost(), keras.layers.Dense(3)]
        ),
        metrics=None,
    )
    before = model.get_weights()
    found = measured(model, candidates=(1,), exact=False)
    assert not found.jit_compile
    assert "with XLA left out (" in str(found)
    assert_equal(before, model.get_weights())


# How it is used.


@pytest.mark.slow
def test_settings_are_printed_in_one_line(capsys):
    found = measured(plain(), verbose=True)
    assert capsys.readouterr().out == f"{found}\n"
    assert str(found).startswith("step: steps_per_execution=")
    assert "\n" not in str(found)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        StepSettings(False, 1).jit_compile = True


def test_eager_model_is_refused():
    with pytest.raises(ValueError, match="without run_eagerly"):
        measured(plain(run_eagerly=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "at least 1. Received: steps=0"),
        ({"candidates": (0, 8)}, r"Received: .*candidates=\(0, 8\)"),
        ({"data": (X[:0], Y[:0])}, "is empty"),
    ],
)
def test_bad_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        measured(plain(), **arguments)


def test_model_that_is_not_compiled_is_refused():
    with pytest.raises(ValueError, match="Call `compile` of"):
        measured(build())


@pytest.mark.slow
def test_default_candidates_are_what_the_line_compares():
    found = measured(plain(), candidates=None)
    assert list(found.speedups) == [
        f"steps_per_execution={number}" for number in (1, 8, 32)
    ]
