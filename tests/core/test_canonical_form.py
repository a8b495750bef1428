# SPDX-License-Identifier: Apache-2.0
"""One form for all builds of a model, and another one for any other model."""

from __future__ import annotations

import json

import keras
import pytest
from keras import layers
from keras import ops

from keras_kd.core.canonical_form import canonical_form
from keras_kd.core.identity import identity
from keras_kd.core.stage_cache import fingerprint_of_model


def dense(units=4, activation=None):
    ones = keras.initializers.Ones()
    return layers.Dense(units, activation, kernel_initializer=ones)


def tower(activation="relu"):
    x = keras.Input((4,))
    a, b = dense()(x), dense()(x)
    return keras.Model(x, a + dense(4, activation)(b))


def with_operations():
    return tower()


def with_an_operation_called_as_an_activation():
    x = keras.Input((4,))
    return keras.Model(x, dense(2, "relu")(ops.relu(dense()(x))))


def nested():
    x = keras.Input((4,))
    return keras.Model(x, tower()(tower()(x)) * 2.0)


def shared_layer():
    x = keras.Input((4,))
    layer = dense()
    return keras.Model(x, layer(layer(x)) - x)


def shared_model():
    x = keras.Input((4,))
    model = tower()
    return keras.Model(x, model(model(x)) + model(x))


def sequential():
    return keras.Sequential([keras.Input((4,)), dense(), tower(), dense()])


@keras.saving.register_keras_serializable("test_canonical_form")
class Wrapped(keras.Model):
    def __init__(self, body=None, **kwargs):
        super().__init__(**kwargs)
        self.body = body or tower()
        self.build((None, 4))

    def call(self, x):
        return self.body(x)

    def get_config(self):
        body = keras.saving.serialize_keras_object(self.body)
        return {**super().get_config(), "body": body}


def transformer():
    """Its attention holds a layer `softmax`, its head an activation."""
    x = keras.Input((3, 4))
    ones = keras.initializers.Ones()
    h = layers.MultiHeadAttention(1, 2, kernel_initializer=ones)(x, x)
    return keras.Model(x, dense(2, "softmax")(h + x))


BUILDERS = [
    with_operations,
    with_an_operation_called_as_an_activation,
    nested,
    shared_layer,
    shared_model,
    sequential,
    Wrapped,
    transformer,
]


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_two_builds_have_one_form(build):
    one, two = build(), build()
    text = json.dumps(canonical_form(one, chosen_too=True), sort_keys=True)
    again = json.dumps(canonical_form(two, chosen_too=True), sort_keys=True)
    assert text == again
    assert fingerprint_of_model(one) == fingerprint_of_model(two)
    assert identity(one) == identity(two)


def test_reloaded_model_has_the_form_of_the_saved_one(tmp_path):
    tower()  # so that names of the saved one carry numbers
    model = nested()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert identity(again) == identity(model)
    assert fingerprint_of_model(again) == fingerprint_of_model(model)


def wired(first, second, name=None):
    """The same layers and operations; what they read may differ."""
    x = keras.Input((4,))
    read = [x, dense()(x), dense()(x)]
    added = ops.add(read[first], read[second])
    read.append(layers.Activation("relu", name=name)(added))
    return keras.Model(x, [read[1] * read[2], read[3] + read[2]])


def test_other_wiring_is_another_form():
    builds = [wired(0, 1), wired(0, 2), wired(1, 0), wired(1, 2)]
    for digest in (identity, fingerprint_of_model):
        assert len({digest(model) for model in builds}) == len(builds)
        assert digest(builds[0]) == digest(wired(0, 1))


def test_other_activation_or_operation_is_another_form():
    x = keras.Input((4,))
    minus = keras.Model(x, dense()(x) - dense(4, "relu")(dense()(x)))
    builds = [tower(), tower("tanh"), minus]
    for digest in (identity, fingerprint_of_model):
        assert len({digest(model) for model in builds}) == len(builds)


def test_chosen_names_count_if_asked():
    one, two = wired(0, 1, name="tap"), wired(0, 1, name="other")
    assert canonical_form(one) != canonical_form(two)
    assert canonical_form(one, chosen_too=True) == canonical_form(
        two, chosen_too=True
    )


def test_config_of_another_kind_is_read_by_the_same_names():
    model = tower()
    names = [layer.name for layer in model.layers]
    found = canonical_form(model, {"taps": names, "k": [1, 2, 3]})
    assert found["k"] == [1, 2, 3]
    assert all(name.startswith("#") for name in found["taps"])
    assert len(set(found["taps"])) == len(names)
