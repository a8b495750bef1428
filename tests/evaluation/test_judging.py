# SPDX-License-Identifier: Apache-2.0
"""A model and its files are judged by one meter, batch by batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import tasks
from keras_kd.evaluation import measure
from keras_kd.evaluation.runtimes import load_runner

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")


def two_heads():
    x = keras.Input((4,))
    kind = keras.layers.Dense(3, "softmax", name="kind")(x)
    rare = keras.layers.Dense(1, "sigmoid", name="rare")(x)
    size = keras.layers.Dense(1, name="size")(x)
    return keras.Model(x, {"kind": kind, "rare": rare, "size": size})


TASK = {
    "kind": tasks.Classification(),
    "rare": tasks.Classification(),
    "size": tasks.Regression(unit="m"),
}
LABELS = {
    "kind": np.arange(12) % 3,
    "rare": np.arange(12) % 2,
    "size": RNG.normal(size=(12, 1)),
}
OURS = {"task": TASK, "headline": "size", "latency": False}


def test_several_outputs_are_judged_by_their_tasks():
    model = two_heads()
    theirs = model.predict(X, verbose=0)
    # Nothing but its maker knows what the teacher's single unit is.
    said = {**theirs, "rare": {"probabilities": theirs["rare"]}}
    found = measure(model, (X, LABELS), **OURS, teacher_predictions=said)
    error = np.abs(theirs["size"] - LABELS["size"]).mean()
    assert found["size_mean_absolute_error"] == pytest.approx(error)
    right = theirs["kind"].argmax(-1) == LABELS["kind"]
    assert found["kind_accuracy"] == pytest.approx(right.mean())
    # Sigmoid, though nothing but the model says so.
    right = (theirs["rare"][:, 0] > 0.5) == LABELS["rare"]
    assert found["rare_accuracy"] == pytest.approx(right.mean())
    assert found["kind_agreement"] == found["rare_agreement"] == 1.0
    assert found["agreement"] == pytest.approx(0.0, abs=1e-6)
    # A model that gives the same in a list has the same names for it.
    listed = keras.Model(model.inputs, list(model.output.values()))
    same = measure(listed, (X, LABELS), **OURS, teacher_predictions=said)
    assert {**same, "bytes": 0, "gzip_bytes": 0} == {
        **found,
        "bytes": 0,
        "gzip_bytes": 0,
    }


def test_several_outputs_need_a_task():
    with pytest.raises(ValueError, match="needs `task`: a dict of tasks"):
        measure(two_heads(), (X, LABELS), latency=False)


def test_positions_need_a_task_and_are_not_called_accuracy():
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(5)])
    x, y = RNG.normal(size=(3, 4, 2)), RNG.integers(0, 5, (3, 4))
    with pytest.raises(ValueError, match=r"Pass `task`.*LanguageModel"):
        measure(model, (x, y), latency=False)
    task = tasks.LanguageModel()
    found = measure(model, (x, y), task=task, latency=False)
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = np.exp(float(entropy(y, model(x))))
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert "accuracy" not in found


def test_weights_of_a_data_set_count():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    y = RNG.normal(size=12)
    weight = np.arange(12) < 5
    split = tf.data.Dataset.from_tensor_slices(
        (X, y, weight.astype("float32"))
    ).batch(4)
    found = measure(model, split, latency=False)
    error = np.abs(model.predict(X, verbose=0)[:, 0] - y)[:5].mean()
    assert found["mean_absolute_error"] == pytest.approx(error)


def test_predictions_of_a_teacher_are_of_these_examples():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    split = X, np.arange(12) % 3
    theirs = model.predict(X, verbose=0)
    for predictions in (theirs, theirs.argmax(-1), {"logits": theirs}):
        found = measure(
            model, split, teacher_predictions=predictions, latency=False
        )
        assert found["agreement"] == 1.0
    for wrong in (theirs[:7], np.concatenate([theirs, theirs])):
        with pytest.raises(ValueError, match="exactly the measured examples"):
            measure(model, split, teacher_predictions=wrong, latency=False)


def test_batches_of_other_lengths_are_judged():
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), keras.layers.Embedding(9, 9)]
    )
    tokens = [RNG.integers(1, 9, (4, length)) for length in (3, 5)]
    stream = tf.data.Dataset.from_generator(
        lambda: ((x.astype("int32"), x) for x in tokens),
        output_signature=(
            tf.TensorSpec((None, None), tf.int32),
            tf.TensorSpec((None, None), tf.int64),
        ),
    )
    task = tasks.LanguageModel()
    found = measure(model, stream, task=task, latency=False)
    logs = [model.predict(x, verbose=0) for x in tokens]
    logs = [log - np.log(np.exp(log).sum(-1, keepdims=True)) for log in logs]
    of_each = [
        np.take_along_axis(log, x[..., None], -1).ravel()
        for log, x in zip(logs, tokens, strict=True)
    ]
    expected = np.exp(-np.concatenate(of_each).mean())
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)


def test_many_lengths_are_not_traced_one_by_one():
    traced = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traced.append(tuple(x.shape))
            return x

    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, Counting()(inputs))
    run = load_runner(model)
    before = len(traced)
    for length in range(3, 12):
        run(np.zeros((4, length, 2), "float32"))
    assert len(traced) - before <= 3
