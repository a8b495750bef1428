# SPDX-License-Identifier: Apache-2.0
"""Identities: the same teacher, whenever it was built; no other."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.targets.hashing.identity import identity


def build(activation="relu", width=3, seed=0):
    initializer = keras.initializers.GlorotUniform(seed)
    x = keras.Input((4,))
    h = keras.layers.Dense(width, activation, kernel_initializer=initializer)(x)
    return keras.Model(x, keras.layers.Dense(2, kernel_initializer="ones")(h))


def scaled(factor):
    return lambda x: x * factor


def test_same_model_built_again_is_the_same():
    """Though its layers are called dense_2 and dense_3 now."""
    one, two = build(), build()
    assert one.layers[1].name != two.layers[1].name
    two.compile("adam", "mse")
    two.trainable = False
    assert identity(one) == identity(two)


@pytest.mark.parametrize(
    "other", [{"activation": "gelu"}, {"width": 4}, {"seed": 1}]
)
def test_other_model_is_another(other):
    assert identity(build()) != identity(build(**other))


def test_one_weight_makes_another_model():
    one, two = build(), build()
    weights = two.get_weights()
    weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.float32(9))
    two.set_weights(weights)
    assert identity(one) != identity(two)


def test_reloaded_model_is_the_same(tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert identity(model) == identity(again)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (scaled(2.0), scaled(2.0), True),
        (scaled(2.0), scaled(3.0), False),
        (scaled(np.ones(2)), scaled(np.zeros(2)), False),
        (lambda x: x + 1, lambda x: x + 1, True),
        (lambda x: x + 1, lambda x: x - 1, False),
        (lambda x: x.sin(), lambda x: x.cos(), False),
        (lambda x, by=1: x + by, lambda x, by=2: x + by, False),
        (functools.partial(max, 1), functools.partial(max, 2), False),
        (1, "1", False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
)
def test_function_is_its_code_and_what_it_closes_over(one, two, same):
    assert (identity(one) == identity(two)) is same


def test_function_that_calls_itself_has_an_identity():
    def again(x):
        return again(x - 1) if x else 0

    assert len(identity(again)) == 64


def test_teacher_is_its_members_and_what_it_does_to_inputs():
    frozen = kd.teachers.FrozenTeacher
    model = build()
    found = {
        identity(teacher)
        for teacher in (
            frozen(model),
            frozen(model, preprocess=scaled(2.0)),
            frozen(model, preprocess=scaled(3.0)),
            frozen(model, activation="sigmoid"),
            kd.teachers.EnsembleTeacher([model, build(seed=1)]),
            kd.teachers.EnsembleTeacher([build(seed=1), model]),
        )
    }
    assert len(found) == 6
    assert identity(frozen(model)) == identity(frozen(build()))


def test_saved_model_teacher_is_its_files(tmp_path):
    model = build()
    model.export(tmp_path / "1", verbose=False)

    def now():
        return identity(
            kd.teachers.SavedModelTeacher(tmp_path / "1", activation="linear")
        )

    before = now()
    assert now() == before
    (tmp_path / "1" / "more.txt").write_text("changed")
    assert now() != before
