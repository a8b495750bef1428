# SPDX-License-Identifier: Apache-2.0
"""Taps reach every named tensor, in one pass, on the model's own weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from keras_kd.core.taps import ForwardPass
from keras_kd.core.taps import tap

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def sequential(name="net"):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(3, name="scores"),
        ],
        name=name,
    )


def nested():
    """A model in a model in a model, called on other tensors than its own."""
    inner = sequential("inner")
    inputs = keras.Input((6,), name="in")
    middle_in = keras.Input((6,))
    middle = keras.Model(
        middle_in,
        layers.Rescaling(2.0, name="twice")(inner(middle_in)),
        name="middle",
    )
    x = layers.Dense(6, name="first")(inputs)
    outputs = layers.Dense(2, name="last")(middle(x))
    return keras.Model(inputs, outputs, name="outer"), middle, inner


def two_outputs():
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, name="hidden")(inputs)
    return keras.Model(
        inputs,
        {
            "class": layers.Dense(3, name="a")(hidden),
            "age": layers.Dense(1, name="b")(hidden),
        },
        name="two",
    )


class Subclassed(keras.Model):
    def __init__(self, outputs=1):
        super().__init__()
        self.dense = layers.Dense(3)
        self.outputs_wanted = outputs

    def call(self, x):
        y = self.dense(x)
        return y if self.outputs_wanted == 1 else [y] * self.outputs_wanted


def test_tap_gives_layers_and_the_output():
    model = sequential()
    taps = tap(model, ["hidden", "output", "norm"])(X)
    assert list(taps) == ["hidden", "output", "norm"]
    hidden = model.get_layer("hidden")(X)
    np.testing.assert_array_equal(taps["hidden"], hidden)
    np.testing.assert_array_equal(taps["output"], model(X))


def test_tap_shares_layers_and_weights():
    model = sequential()
    tapped = tap(model, ["hidden"])
    assert tapped.get_layer("hidden") is model.get_layer("hidden")
    model.get_layer("hidden").bias.assign([7.0] * 8)
    hidden = model.get_layer("hidden")(X)
    np.testing.assert_array_equal(tapped(X)["hidden"], hidden)


def test_tap_leaves_the_model_as_it_was():
    model, _, _ = nested()
    before = model.get_config()
    expected = np.asarray(model(X))
    tap(model, ["middle/inner/hidden", "output"])
    assert model.get_config() == before
    np.testing.assert_array_equal(model(X), expected)


@pytest.mark.parametrize(
    "names",
    [
        ["middle/twice"],
        ["middle/inner/hidden", "middle/inner/scores"],
        ["middle/inner/hidden", "middle/twice", "first", "output"],
        ["middle/inner"],
        ["middle/output", "last"],
    ],
    ids=str,
)
def test_tap_reaches_into_nested_models(names):
    model, middle, inner = nested()
    taps = tap(model, names)(X)
    first = model.get_layer("first")(X)
    expected = {
        "first": first,
        "middle/inner/hidden": inner.get_layer("hidden")(first),
        "middle/inner/scores": inner(first),
        "middle/inner": inner(first),
        "middle/twice": middle(first),
        "middle/output": middle(first),
        "last": model(X),
        "output": model(X),
    }
    assert list(taps) == names
    for name in names:
        np.testing.assert_allclose(taps[name], expected[name], rtol=1e-6)


def test_nested_tap_keeps_the_weights_of_the_model():
    model, _, _ = nested()
    tapped = tap(model, ["middle/inner/hidden", "output"])
    own = {id(weight) for weight in model.weights}
    assert {id(weight) for weight in tapped.weights} == own


def test_nested_tap_is_on_the_way_to_the_output():
    """One pass: dropout in the nested model draws one mask for both."""
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dropout(0.5, name="drop")], name="inner"
    )
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Identity()(inner(inputs)))
    taps = tap(model, ["inner/drop", "output"])(X, training=True)
    np.testing.assert_array_equal(taps["inner/drop"], taps["output"])


def test_taps_of_a_compiled_and_trained_nested_model():
    model, _, inner = nested()
    inner.compile("sgd", loss="mse", run_eagerly=True)
    model.compile("sgd", loss="mse", run_eagerly=True)
    model.fit(X, np.zeros((4, 2)), verbose=0)
    taps = tap(model, ["middle/inner/hidden", "output"])(X)
    np.testing.assert_array_equal(taps["output"], model(X))


def test_taps_of_a_sequential_called_as_a_layer():
    model, _, inner = nested()
    taps = tap(inner, ["hidden"])
    assert taps.input is inner.inputs[0]
    np.testing.assert_array_equal(
        taps(X)["hidden"], inner.get_layer("hidden")(X)
    )


def test_taps_of_a_model_with_lambda_layers():
    inner_in = keras.Input((6,))
    inner_out = layers.Lambda(lambda x: 3.0 * x, name="triple")(inner_in)
    inner = keras.Model(inner_in, inner_out, name="inner")
    inputs = keras.Input((6,))
    shifted = layers.Lambda(lambda x: x + 1.0, name="shift")(inner(inputs))
    model = keras.Model(inputs, shifted)
    taps = tap(model, ["inner/triple", "shift"])(X)
    np.testing.assert_allclose(taps["inner/triple"], 3.0 * X)
    np.testing.assert_allclose(taps["shift"], 3.0 * X + 1.0)


WIDTHS = {"a": 6, "b": 2}


def test_taps_of_dict_inputs_and_outputs():
    inputs = {
        "a": keras.Input((6,), name="a"),
        "b": keras.Input((2,), name="b"),
    }
    joined = layers.Concatenate(name="joined")([inputs["a"], inputs["b"]])
    inner = sequential_of(8)
    outputs = {"wide": inner(joined), "joined_out": joined}
    model = keras.Model(inputs, outputs)
    x = {"a": X, "b": X[:, :2]}
    for names in (["joined", "wide"], ["inner/hidden", "wide", "joined_out"]):
        taps = tap(model, names)(x)
        assert list(taps) == names
        np.testing.assert_array_equal(taps["wide"], model(x)["wide"])


def sequential_of(width):
    return keras.Sequential(
        [keras.Input((width,)), layers.Dense(4, name="hidden")], name="inner"
    )


def test_tap_of_a_named_output_and_of_the_layer_behind_it():
    model = two_outputs()
    taps = tap(model, ["class", "age", "a"])(X)
    np.testing.assert_array_equal(taps["class"], model(X)["class"])
    np.testing.assert_array_equal(taps["class"], taps["a"])
    assert tuple(taps["age"].shape) == (4, 1)


def test_taps_pass_the_training_flag_on():
    model = sequential()
    tapped = tap(model, ["drop", "norm"])
    still, moving = tapped(X, training=False), tapped(X, training=True)
    np.testing.assert_array_equal(still["drop"], still["norm"])
    assert np.mean(np.asarray(moving["drop"]) == 0.0) > 0.2


# Errors.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hiden", r"No layer or output named 'hiden'.*mean one of \['hidden'"),
        ("nothing like it", "It has: output, "),
        (
            "hidden/kernel",
            "Dense and has no layers in it. Name the layer itself",
        ),
    ],
)
def test_tap_of_a_wrong_name_lists_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        tap(sequential(), [name])


def test_tap_of_a_wrong_nested_name_lists_near_names():
    model, _, _ = nested()
    with pytest.raises(ValueError, match=r"mean one of \['inner/hidden'"):
        tap(model, ["middle/inner_hidden_"])
    with pytest.raises(ValueError, match=r"No layer .* 'hiddn' in 'inner'"):
        tap(model, ["middle/inner/hiddn"])


def test_tap_of_a_side_branch_says_so():
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, name="hidden")(inputs)
    layers.Dense(2, name="side")(hidden)
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    with pytest.raises(ValueError, match="not on a path from the inputs"):
        tap(model, ["side"])


def test_tap_output_of_several_outputs_is_ambiguous():
    with pytest.raises(ValueError, match=r"Name one of \['class', 'age'\]"):
        tap(two_outputs(), ["output"])


def test_tap_of_a_layer_called_twice_is_ambiguous():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    with pytest.raises(ValueError, match="called 2 times.*Identity and tap"):
        tap(model, ["shared"])


def test_tap_in_a_nested_model_called_twice_is_ambiguous():
    inner = sequential_of(4)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(inner(inputs)))
    with pytest.raises(ValueError, match="'inner' is called 2 times"):
        tap(model, ["inner/hidden", "output"])


def test_tap_of_a_layer_with_several_tensors_is_ambiguous():
    inputs = keras.Input((5, 6))
    sequence, *_ = layers.LSTM(3, return_state=True, name="lstm")(inputs)
    model = keras.Model(inputs, layers.Identity(name="sequence")(sequence))
    with pytest.raises(ValueError, match="gives 3 tensors.*Identity and tap"):
        tap(model, ["lstm"])
    assert tap(model, ["sequence"]).output["sequence"].shape == (None, 3)


def test_layer_called_elsewhere_too_is_not_ambiguous():
    model = sequential()
    other = keras.Input((6,))
    keras.Model(other, model.get_layer("hidden")(other))
    assert tuple(tap(model, ["hidden"])(X)["hidden"].shape) == (4, 8)


@pytest.mark.parametrize(
    "model", [Subclassed(), keras.Sequential([layers.Dense(3)])], ids=str
)
def test_tap_of_a_model_without_a_graph_says_how_to_rewrite_it(model):
    with pytest.raises(ValueError, match="Functional or Sequential model"):
        tap(model, ["dense"])


# ForwardPass.


def test_forward_pass_gives_prediction_and_taps():
    model = sequential()
    forward = ForwardPass(model, ["hidden", "output"])
    prediction, taps = forward(X, training=False)
    np.testing.assert_array_equal(prediction, model(X))
    np.testing.assert_array_equal(taps["output"], prediction)
    assert forward.shape("hidden") == (None, 8)
    assert forward.activation("output") == "linear"


def test_forward_pass_keeps_the_structure_of_the_prediction():
    forward = ForwardPass(two_outputs(), ["hidden", "age"])
    prediction, taps = forward(X, training=False)
    assert set(prediction) == {"class", "age"}
    np.testing.assert_array_equal(prediction["age"], taps["age"])


def test_forward_pass_runs_a_subclassed_model():
    model = Subclassed()
    forward = ForwardPass(model, ["output"])
    prediction, taps = forward(X, training=True)
    np.testing.assert_array_equal(taps["output"], prediction)
    assert forward.shape("output") is None
    assert forward.activation("output") is None


def test_forward_pass_refuses_what_it_cannot_reach():
    with pytest.raises(ValueError, match="without a graph"):
        ForwardPass(Subclassed(), ["dense"])
    with pytest.raises(ValueError, match="the model gives 2 tensors"):
        ForwardPass(Subclassed(outputs=2), ["output"])(X, training=False)


def two_inputs(as_dict):
    inputs = {name: keras.Input((2,), name=name) for name in ("left", "right")}
    scores = keras.layers.Subtract()([inputs["left"], inputs["right"]])
    given = inputs if as_dict else [inputs["right"], inputs["left"]]
    return keras.Model(given, scores)


@pytest.mark.parametrize("as_dict", [True, False])
def test_forward_pass_takes_its_part_of_a_dict(as_dict):
    left, right = np.ones((3, 2)), np.full((3, 2), 5.0)
    x = {"audio": np.zeros((3, 9)), "left": left, "right": right}
    output, _ = ForwardPass(two_inputs(as_dict), [])(x, training=False)
    np.testing.assert_array_equal(output, left - right)


def test_forward_pass_of_one_input_takes_it_by_name():
    image = keras.Input((2,), name="right")
    model = keras.Model(image, keras.layers.Identity()(image))
    x = {"left": np.zeros((3, 2)), "right": np.ones((3, 2))}
    output, _ = ForwardPass(model, [])(x, training=False)
    np.testing.assert_array_equal(output, x["right"])


def test_forward_pass_names_inputs_that_are_missing():
    with pytest.raises(ValueError, match=r"not in the data: \['right'\]"):
        ForwardPass(two_inputs(True), [])({"left": np.ones((3, 2))}, False)
