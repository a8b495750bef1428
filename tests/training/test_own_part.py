# SPDX-License-Identifier: Apache-2.0
"""A student that takes a part of what the data hold, and so its control."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.core.model_inputs import check_takes_all
from keras_kd.training.trainer import train
from keras_kd.workflows.argument_checks import check_lesson

RNG = np.random.default_rng(0)
X = {name: RNG.normal(size=(16, 2)).astype("float32") for name in "ab"}
Y = RNG.integers(0, 3, 16).astype("int32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BOTH = kd.Data((X, Y), (X, Y))
WRONG = r"a dict with \['b'\], those of the data \['a', 'b'\].* a list"


def build(*names, as_list=False):
    inputs = {name: keras.Input((2,), name=name) for name in names}
    x = sum(inputs.values())
    outputs = keras.layers.Dense(3, use_bias=False)(x)
    return keras.Model(list(inputs.values()) if as_list else inputs, outputs)


def teacher():
    return build("a", "b")


def student():
    return build("b")


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: train(student, BOTH, title=None, epochs=1, loss=LOSS),
        lambda folder: kd.prune(student(), (X, Y), 0.5, epochs=1, loss=LOSS),
        lambda folder: check_lesson(teacher(), student, BOTH),
    ],
    ids=["train", "prune", "compress"],
)
def test_what_keras_would_train_on_the_wrong_part_is_refused(tmp_path, call):
    with pytest.raises(ValueError, match=WRONG):
        call(tmp_path)


def test_data_sets_are_told_by_what_they_yield():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    with pytest.raises(ValueError, match=WRONG):
        check_takes_all(student(), data)
    for model in (teacher(), build("b", as_list=True)):
        check_takes_all(model, data)
    check_takes_all(student(), {"b": X["b"]})


def test_control_whose_inputs_are_a_list_learns_from_its_own_part(eager):
    """As on data that hold nothing else."""
    own = {"b": X["b"]}
    found = []
    for data in (BOTH, kd.Data((own, Y), (own, Y))):
        model, _ = train(
            lambda: build("b", as_list=True),
            data,
            title=None,
            epochs=2,
            batch_size=8,
            loss=LOSS,
        )
        found.append(model.get_weights()[0])
    np.testing.assert_array_equal(*found)


def test_distiller_gives_each_its_own_part(eager):
    both, one = teacher(), student()
    distiller = kd.Distiller(both, one, 1.0, 0.5).compile("sgd", LOSS)
    logs = distiller.evaluate(X, Y, verbose=0, return_dict=True)
    scores = np.asarray(one({"b": X["b"]}))
    expected = LOSS(Y, scores)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
