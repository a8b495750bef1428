# SPDX-License-Identifier: Apache-2.0
"""Names and heads of exported models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import write_saved_model
from keras_kd.export.signatures.answers import answer_function
from keras_kd.export.signatures.requests import as_request
from keras_kd.export.signatures.requests import random_batch
from keras_kd.export.signatures.signature import input_specs

layers = keras.layers


def names(specs):
    return [spec.name for spec in keras.tree.flatten(specs)]


def unnamed(count=1):
    tensors = [keras.Input((3,)) for _ in range(count)]
    x = layers.Add()(tensors) if count > 1 else tensors[0]
    return keras.Model(tensors, layers.Dense(2)(x))


class Subclassed(keras.Model):
    def __init__(self, activation=None):
        super().__init__()
        self.embed = layers.Embedding(7, 3)
        self.head = layers.Dense(2, activation=activation)

    def call(self, ids):
        return self.head(keras.ops.mean(self.embed(ids), axis=1))


def test_input_specs_of_unnamed_inputs_do_not_depend_on_history():
    first = [names(input_specs(unnamed(n))) for n in (1, 2)]
    for _ in range(5):
        unnamed()
    assert [names(input_specs(unnamed(n))) for n in (1, 2)] == first
    assert first == [["input"], ["input_0", "input_1"]]


def test_input_specs_keep_names_dtypes_and_free_the_batch():
    image = keras.Input((4, 4), batch_size=8, name="image", dtype="uint8")
    x = layers.Flatten()(layers.Rescaling(1.0)(image))
    (spec,) = keras.tree.flatten(input_specs(keras.Model(image, x)))
    assert (spec.name, spec.dtype) == ("image", tf.uint8)
    assert tuple(spec.shape) == (None, 4, 4)


def test_input_specs_of_dict_are_its_keys():
    a, b = keras.Input((2,), name="left"), keras.Input((2,), name="right eye")
    inputs = {"left": a, "right eye": b}
    model = keras.Model(inputs, layers.Dense(1)(layers.Add()([a, b])))
    assert names(input_specs(model)) == ["left", "right_eye"]


def test_input_specs_refuse_equal_names():
    a, b = keras.Input((2,), name="a b"), keras.Input((2,), name="a_b")
    model = keras.Model([a, b], layers.Add()([a, b]))
    with pytest.raises(ValueError, match="different names"):
        input_specs(model)


def test_input_specs_of_subclassed_model():
    model = Subclassed()
    with pytest.raises(ValueError, match="Call it on a batch"):
        input_specs(model)
    model(np.ones((4, 5), "int32"))
    assert tuple(input_specs(model).shape) == (None, 5)
    spec = input_specs(model, np.ones((2, 5), "int32"), batch_size=1)
    assert (tuple(spec.shape), spec.dtype) == ((1, 5), tf.int32)


@pytest.mark.parametrize(
    "head, activation, keys",
    [
        (None, "softmax", {"output"}),
        ("regression", None, {"output"}),
        ("logits", None, {"logits", "probabilities"}),
        ("probabilities", "softmax", {"logits", "probabilities"}),
    ],
)
def test_answer_function_of_subclassed_model_follows_head(
    head, activation, keys
):
    model = Subclassed(activation)
    ids = np.ones((4, 5), "int32")
    answers = answer_function(model, head)(ids)
    assert set(answers) == keys
    if head:
        # Log-probabilities or logits: both give back the probabilities.
        first = next(iter(answers.values()))
        wanted = answers.get("probabilities", first)
        got = tf.nn.softmax(first) if "logits" in answers else first
        np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (1,), (6, 5)])
def test_answer_function_of_logits_adds_probabilities(shape):
    x = keras.Input((*shape[:-1], 3))
    model = keras.Model(x, layers.Dense(shape[-1])(x))
    batch = np.random.default_rng(0).normal(size=(4, *shape[:-1], 3))
    answers = answer_function(model)(batch.astype("float32"))
    z = answers["logits"].numpy().astype("float64")
    np.testing.assert_allclose(z, model.predict(batch, verbose=0), atol=1e-6)
    e = np.exp(z)
    p = e / (1 + e) if shape == (1,) else e / e.sum(-1, keepdims=True)
    np.testing.assert_allclose(answers["probabilities"], p, atol=1e-6)


def test_answer_function_regression_keeps_values():
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(1)(x))
    batch = np.ones((2, 3), "float32")
    answers = answer_function(model, "regression")(batch)
    assert list(answers) == ["output"]
    np.testing.assert_array_equal(answers["output"], model(batch))
    with pytest.raises(ValueError, match="`head` must be None, one of"):
        answer_function(model, "classes")


def test_answer_function_keeps_names_of_several_outputs():
    x = keras.Input((3,))
    heads = [layers.Dense(2)(x), layers.Dense(4, name="boxes")(x)]
    batch = np.ones((2, 3), "float32")
    answers = answer_function(keras.Model(x, heads))(batch)
    assert {k: v.shape[-1] for k, v in answers.items()} == {
        "output_0": 2,
        "boxes": 4,
    }
    model = keras.Model(x, {"class": heads[0], "boxes": heads[1]})
    answers = answer_function(model)(batch)
    assert {k: v.shape[-1] for k, v in answers.items()} == {
        "class": 2,
        "boxes": 4,
    }


def test_write_saved_model_signature_is_named_free_and_repeatable(tmp_path):
    signatures = []
    for repeat in ("a", "b"):
        model = unnamed(2)
        write_saved_model(model, tmp_path / repeat)
        loaded = tf.saved_model.load(str(tmp_path / repeat))
        assert "serve" in dir(loaded)
        signature = loaded.signatures["serving_default"]
        signatures.append(
            {
                **signature.structured_input_signature[1],
                **signature.structured_outputs,
            }
        )
        unnamed(3)
    assert list(signatures[0]) == list(signatures[1])
    assert set(signatures[0]) == {
        "input_0",
        "input_1",
        "logits",
        "probabilities",
    }
    assert all(spec.shape[0] is None for spec in signatures[0].values())


def test_write_saved_model_refuses_used_folder(tmp_path):
    (tmp_path / "variables").mkdir()
    with pytest.raises(ValueError, match="must be new or empty"):
        write_saved_model(unnamed(), tmp_path)


def test_random_batch_has_the_inputs_dtypes_and_shapes():
    specs = {
        "a": tf.TensorSpec((None, 32, 3), tf.float32, "a"),
        "b": tf.TensorSpec((None, 4), tf.int64, "b"),
        "c": tf.TensorSpec((None,), tf.string, "c"),
    }
    batch = random_batch(specs, rows=2)
    assert batch["a"].shape == (2, 32, 3) and batch["a"].dtype == "float32"
    assert batch["b"].shape == (2, 4) and batch["b"].max() <= 1
    assert batch["c"].shape == (2,)
    with pytest.raises(ValueError, match="one array without a name"):
        as_request(specs, batch["a"])
    with pytest.raises(ValueError, match="must have shape"):
        as_request(specs["b"], np.ones((2, 5)))
    # What is left open is not invented.
    with pytest.raises(ValueError, match="needs example inputs"):
        random_batch(tf.TensorSpec((None, None), tf.int32, "ids"))


def test_as_request_pairs_by_name_or_by_the_models_own_nesting():
    ids, words = np.ones((2, 3), "int32"), np.zeros((2, 3), "int32")
    pair = [
        tf.TensorSpec((None, 3), tf.int32, "words"),
        tf.TensorSpec((None, 3), tf.int32, "ids"),
    ]
    for batch in ((words, ids), [words, ids], {"ids": ids, "words": words}):
        found = as_request(pair, batch)
        np.testing.assert_array_equal(found["ids"], ids)
        np.testing.assert_array_equal(found["words"], words)
    # Renamed inputs still go by the keys that the model takes.
    renamed = {"left": pair[0], "right": pair[1]}
    found = as_request(renamed, {"right": ids, "left": words})
    np.testing.assert_array_equal(found["ids"], ids)
    # Other keys say nothing of which is which.
    for batch in ({"a": ids, "b": words}, {"ids": ids, "word": words}):
        with pytest.raises(ValueError, match="takes the inputs named"):
            as_request(pair, batch)
    with pytest.raises(ValueError, match="2 arrays without names"):
        as_request(renamed, (words, ids))
