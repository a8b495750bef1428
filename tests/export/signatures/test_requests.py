# SPDX-License-Identifier: Apache-2.0
"""What users give as `inputs`: paired and cast only where that is certain."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.serving.test_serving_files import load
from keras_kd.core.litert_runner import LiteRTRunner
from keras_kd.evaluation.runtimes import load_runner
from keras_kd.export import export
from keras_kd.export.serving.serving_files import client_source
from keras_kd.export.signatures.answers import answer_function
from keras_kd.export.signatures.answers import unknown_outputs
from keras_kd.export.signatures.endpoint import make_endpoint
from keras_kd.export.signatures.requests import as_request

layers = keras.layers
PIXELS = tf.TensorSpec((None, 4), tf.uint8, name="image")
HALVES = np.full((2, 4), 0.5, "float32")


@pytest.mark.parametrize(
    "given, held",
    [
        (HALVES, None),  # would all be black
        (np.full((2, 4), 300), None),  # would be 44
        (np.full((2, 4), -1), None),
        (np.full((2, 4), np.nan), None),
        ([["1"] * 4], None),
        (np.full((2, 4), 7.0), 7),
        ([[7] * 4], 7),
    ],
)
def test_integers_take_only_what_they_can_hold(tmp_path, given, held):
    """In requests, whose answers are expected, as in the client's."""
    path = tmp_path / "client.py"
    path.write_text(client_source("m", [PIXELS], ["output"]))
    client = load(path)
    for taken in (
        lambda: as_request(PIXELS, given)["image"],
        lambda: client._typed("image", given),
    ):
        if held is None:
            with pytest.raises(ValueError, match="must be uint8"):
                taken()
        else:
            assert (taken() == held).all() and taken().dtype == "uint8"
    with pytest.raises(ValueError, match="Received: object"):
        as_request(PIXELS, tf.data.Dataset.range(3))


@pytest.fixture(scope="module")
def exported_column(tmp_path_factory):
    """A model of a column of whole numbers, as both files."""
    number = keras.Input((1,), dtype="uint8", name="user")
    vector = layers.Flatten()(layers.Embedding(9, 3)(number))
    model = keras.Model(number, vector)
    folder = tmp_path_factory.mktemp("column")
    column = np.arange(6)
    export(model, folder, "m", inputs=column, head="regression", verbose=False)
    return model, folder / "m"


def test_a_column_without_its_axis_is_taken_as_keras_takes_it(exported_column):
    model, folder = exported_column
    column = np.arange(6)
    expected = model.predict(column, verbose=0)
    for path in (folder / "1", folder / "m.tflite"):
        found = load_runner(path)({"user": column})["output"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="must have shape"):
        as_request(PIXELS, np.zeros(4, "uint8"))


def test_files_refuse_what_their_dtype_cannot_hold(exported_column):
    _, folder = exported_column
    runners = [load_runner(folder / "1"), LiteRTRunner(folder / "m.tflite")]
    for runner in runners:
        with pytest.raises(ValueError, match="must be uint8"):
            runner({"user": np.full((2, 1), 0.5, "float32")})


def test_names_are_known_however_an_export_writes_them():
    size = "gr\u00f6\u00dfe"
    a, b = (keras.Input((3,), name=name) for name in (size, "2d"))
    model = keras.Model([a, b], layers.Subtract()([a, b]))
    endpoint = make_endpoint(model, head="regression")
    names = [spec.name for spec in endpoint.flat]
    assert names == ["gr__e", "input_2d"]
    x, y = np.ones((1, 3), "float32"), np.zeros((1, 3), "float32")
    given = {"2d": y, size: x}
    assert (endpoint.request(given)["gr__e"] == 1).all()
    assert (as_request(list(endpoint.flat), given)["gr__e"] == 1).all()
    names = {size: "size", "2d": "flat", "output": "out"}
    renamed = make_endpoint(model, head="regression", names=names)
    assert [spec.name for spec in renamed.flat] == ["size", "flat"]
    assert set(renamed.expected(renamed.request(given))) == {"out"}


def outputs_named(*names):
    x = keras.Input((3,))
    return keras.Model(
        x, {name: layers.Dense(2, name=name)(x) for name in names}
    )


@pytest.mark.parametrize(
    "names, head",
    [(("s-1", "s_1"), None), (("a", "a_logits"), {"a": "logits"})],
)
def test_outputs_of_one_name_are_refused(names, head):
    with pytest.raises(ValueError, match="would be called"):
        answer_function(outputs_named(*names), head)(HALVES[:, :3])


def test_a_model_of_several_arguments_is_told_to_take_one():
    class Two(keras.Model):
        def call(self, left, right, training=False):
            return left - right

    model = Two()
    model(HALVES, HALVES)
    with pytest.raises(
        ValueError, match=r"inputs\['left'\], inputs\['right'\]"
    ):
        make_endpoint(model)


def test_outputs_are_unknown_where_neither_loss_nor_activation_tells():
    model = outputs_named("kind", "price")
    assert unknown_outputs(model, ["kind", "price"]) == {"kind", "price"}
    model.compile(loss={"price": "mse"})
    assert unknown_outputs(model, ["kind", "price"]) == {"kind"}
    sole = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    both = {"logits", "probabilities"}
    assert unknown_outputs(sole, both) == both
    sole.compile(loss="mse")
    assert unknown_outputs(sole, ["output"]) == set()
    squashed = keras.Sequential([sole, layers.Softmax()])
    assert unknown_outputs(squashed, both) == set()
