# SPDX-License-Identifier: Apache-2.0
"""Early exits: each a model of its own, or one after the other."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from distillers.tiny import cross_entropy
from distillers.tiny import log_softmax
from distillers.tiny import softmax
from keras_kd.recipes import digits
from selection import quick

NAMES = ["early", "middle", "last"]


class CountRows(layers.Layer):
    """Counts the examples that really pass, in compiled code too."""

    def build(self, shape):
        self.rows = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, x):
        self.rows.assign_add(keras.ops.shape(x)[0])
        return x


def three_exits(activation=None, count=False):
    """Two inputs, a layer called on both sides of an exit, and a skip."""
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(6, activation="tanh", name="shared")
    first = shared(a)
    early = layers.Dense(3, activation=activation, name="early")(first)
    if count:
        first = CountRows(name="second_part")(first)
    second = layers.Dense(6)(layers.Concatenate()([shared(first), b]))
    second = layers.Dropout(0.9)(second)
    middle = layers.Dense(3, activation=activation, name="middle")(second)
    if count:
        second = CountRows(name="third_part")(second)
    third = layers.Add()([shared(second), first, layers.Dense(6)(a)])
    last = layers.Dense(3, activation=activation, name="last")(third)
    model = keras.Model(
        {"a": a, "b": b}, {"early": early, "middle": middle, "last": last}
    )
    # Wide scores: confidences from unsure to sure.
    model.set_weights([3.0 * w for w in model.get_weights()])
    return model


def inputs(rows=50):
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(rows, 6)).astype("float32"),
        "b": rng.normal(size=(rows, 4)).astype("float32"),
    }


def expected(model, x, threshold, probabilities=False):
    """Every exit for every example, then a choice by the rule."""
    every = model.predict(x, verbose=0)
    every = np.stack([every[name] for name in NAMES], axis=1)
    if probabilities:
        every = np.log(np.float64(every))
    sure = np.float32(softmax(every).max(-1)) > threshold
    sure[:, -1] = True
    chosen = sure.argmax(axis=1)
    return every[np.arange(len(every)), chosen], chosen


@pytest.mark.parametrize("threshold", quick(1, [0.8, 0.6, 1.0, 0.0]))
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_early_exit_answers_as_the_whole_model_would(activation, threshold):
    model, x = three_exits(activation), inputs()
    early = kd.EarlyExit(model, NAMES, threshold)
    logits, exits = early.predict(x, batch_size=16)
    answers, chosen = expected(model, x, threshold, activation == "softmax")
    np.testing.assert_array_equal(exits, chosen)
    np.testing.assert_allclose(
        log_softmax(logits), log_softmax(answers), atol=1e-4
    )
    if threshold == 0.8:
        assert set(exits) == {0, 1, 2}


def test_early_exit_runs_the_deeper_part_for_unsure_examples_only():
    model, x = three_exits(count=True), inputs()
    early = kd.EarlyExit(model, NAMES, threshold=0.8)
    counts = [model.get_layer(f"{n}_part").rows for n in ("second", "third")]
    for count in counts:
        count.assign(0)
    _, exits = early.predict(x, batch_size=16)
    assert [int(count) for count in counts] == [
        np.sum(exits >= 1),
        np.sum(exits >= 2),
    ]
    assert 0 < int(counts[1]) < int(counts[0]) < 50
    # Nothing of the first stage is computed again.
    first, second, third = (s.operations for s in early.stages)
    assert model.get_layer("early") not in second + third
    assert model.get_layer("middle") not in third


def test_early_exit_shares_the_weights_and_its_threshold_can_be_assigned():
    model, x = three_exits(), inputs()
    early = kd.EarlyExit(model, NAMES, threshold=1.0)
    assert (early.predict(x)[1] == 2).all()
    model.set_weights([0.5 * w for w in model.get_weights()])
    early.threshold = 0.0
    logits, exits = early.predict(x)
    assert (exits == 0).all()
    answers = model.predict(x, verbose=0)["early"]
    np.testing.assert_allclose(logits, answers, atol=1e-5)


def test_early_exit_takes_a_dataset_and_passes_over_its_labels():
    model, x = three_exits(), inputs()
    early = kd.EarlyExit(model, NAMES, threshold=0.8)
    batches = tf.data.Dataset.from_tensor_slices((x, np.arange(50))).batch(20)
    for found, wanted in zip(
        early.predict(batches), early.predict(x), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_exits_of_have_the_layers_on_their_way_only_and_share_them():
    model, x = three_exits(), inputs()
    exits = kd.exits_of(model)
    assert list(exits) == NAMES
    counts = [exit.count_params() for exit in exits.values()]
    assert counts == sorted(counts) and counts[0] < counts[1] < counts[2]
    assert counts[0] == (6 * 6 + 6) + (6 * 3 + 3)
    for name, wanted in model.predict(x, verbose=0).items():
        found = exits[name].predict(x, verbose=0)
        np.testing.assert_array_equal(found, wanted)
    kernel = model.get_layer("early").kernel
    assert any(w is kernel for w in exits["early"].weights)


def test_exits_of_takes_layers_of_a_plain_model():
    model = digits.build_student()
    exits = kd.exits_of(model, [model.layers[0].name, "output"])
    assert [e.output_shape[1:] for e in exits.values()] == [(4, 4, 8), (10,)]


@functools.cache
def learned():
    """Digits, learned by a student whose last exit teaches its first."""
    x = keras.Input((8, 8, 1), name="image")
    shallow = layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    early = layers.Dense(10, name="early")(layers.Flatten()(shallow))
    deep = layers.Conv2D(32, 3, padding="same", activation="relu")(shallow)
    deep = layers.Conv2D(32, 3, padding="same", activation="relu")(deep)
    last = layers.Dense(10, name="last")(layers.Flatten()(deep))
    student = keras.Model(x, {"early": early, "last": last}, name="digits")
    distiller = kd.Distiller(
        kd.teachers.OwnExitTeacher("last"),
        student,
        alpha=0.3,
        distillation_losses=kd.losses.SoftTargets(3.0, student="early"),
    )
    both = {"early": cross_entropy(), "last": cross_entropy()}
    distiller.compile(keras.optimizers.Adam(5e-3), both)
    images, y = digits.load_teacher_data().train
    distiller.fit(
        images, {"early": y, "last": y}, batch_size=32, epochs=6, verbose=0
    )
    return student


@pytest.mark.slow
def test_early_exit_answers_most_digits_early_and_as_well():
    x, y = digits.load_data().test
    student = learned()
    early = kd.EarlyExit(student, ["early", "last"], threshold=0.9)
    logits, exits = early.predict(x)
    right = logits.argmax(-1) == y
    alone = {
        name: np.mean(scores.argmax(-1) == y)
        for name, scores in student.predict(x, verbose=0).items()
    }
    share = np.mean(exits == 0)
    assert alone["last"] > 0.9
    assert right.mean() > alone["early"]
    assert right.mean() > alone["last"] - 0.02
    assert 0.3 < share < 1.0
    assert right[exits == 0].mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("name", quick(1, ["early", "last"]))
def test_each_exit_is_exported_and_verified(tmp_path, name):
    exit = kd.exits_of(learned())[name]
    x, _ = digits.load_data().test
    record = kd.export(exit, tmp_path, inputs=x[:8], verbose=False)
    assert record.name == f"digits_{name}"
    for kind in ("saved_model", "tflite"):
        assert record.metrics[kind]["max_difference"] < 1e-3
    assert (tmp_path / f"digits_{name}" / "1" / "saved_model.pb").is_file()
    if name == "early":
        whole = sum(4 * w.numpy().size for w in learned().weights)
        assert record.metrics["tflite"]["bytes"] < 0.5 * whole


def masked():
    x = keras.Input((5,), dtype="int32")
    h = layers.Embedding(7, 4, mask_zero=True)(x)
    early = layers.Dense(3, name="early")(layers.GlobalAveragePooling1D()(h))
    last = layers.Dense(3, name="last")(layers.LSTM(4)(h))
    return keras.Model(x, {"early": early, "last": last})


def chained():
    x = keras.Input((5,))
    early = layers.Dense(3, name="early")(x)
    return keras.Model(x, layers.Dense(3, name="last")(early))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.EarlyExit(three_exits(), ["early"]), "two or more"),
        (lambda: kd.EarlyExit(three_exits(), "early"), "two or more"),
        (
            lambda: kd.EarlyExit(three_exits(), ["early", "erly"]),
            "Did you mean.*early",
        ),
        (
            lambda: kd.EarlyExit(three_exits(), ["last", "shared_x"]),
            "No layer",
        ),
        (
            lambda: kd.EarlyExit(three_exits("sigmoid"), NAMES),
            "no class scores.*'sigmoid'",
        ),
        (lambda: kd.EarlyExit(three_exits(), NAMES, 1.2), "threshold=1.2"),
        (
            lambda: kd.EarlyExit(digits.build_student(), ["flatten", "output"]),
            "no class scores.*after activation None",
        ),
        (
            lambda: kd.EarlyExit(chained(), ["last", "early"]),
            "shallowest to the deepest",
        ),
        (lambda: kd.EarlyExit(masked(), ["early", "last"]), "with a mask"),
        (lambda: kd.exits_of(keras.Sequential([layers.Dense(2)])), "graph"),
        (lambda: kd.exits_of(three_exits(), ["erly"]), "Did you mean"),
    ],
)
def test_early_exit_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
