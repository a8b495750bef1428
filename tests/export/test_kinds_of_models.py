# SPDX-License-Identifier: Apache-2.0
"""export() of models as people have them: names, sizes, texts, tuples."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.evaluation.runtimes import load_runner
from keras_kd.export import VerificationError
from keras_kd.export import export
from keras_kd.export import run_tflite
from keras_kd.export.signatures.answers import answer_function
from keras_kd.export.signatures.answers import head_of
from keras_kd.export.signatures.endpoint import make_endpoint

layers = keras.layers
RNG = np.random.default_rng(0)
PAIR = [RNG.random((4, 3), "float32") for _ in range(2)]


def difference_of(first, second):
    """A model that tells its two inputs apart."""
    a, b = (keras.Input((3,), name=name) for name in (first, second))
    model = keras.Model([a, b], layers.Subtract()([a, b]))
    return model, [a.name, b.name]


@pytest.mark.parametrize(
    "first, second, names",
    [
        ("z-raw", "a", None),
        ("z", "a", {"z": "b", "a": "c"}),
        ("z", "a", {"z": "a", "a": "z"}),
        (None, None, None),
        (None, None, {"input_0": "z", "input_1": "a"}),
    ],
)
def test_a_dict_of_inputs_goes_by_every_name_that_is_the_models(
    first, second, names
):
    model, own = difference_of(first, second)
    endpoint = make_endpoint(model, names=names, head="regression")
    expected = PAIR[0] - PAIR[1]
    given = [own, [spec.name for spec in endpoint.flat]]
    if names and set(names) == set(names.values()):
        given.pop()  # swapped: the model's own names count
    if first is None:
        given.append(["input_0", "input_1"])
    for keys in given:
        # Written in the other order, as sorting may do it.
        batch = dict(reversed(list(zip(keys, PAIR, strict=True))))
        answers = endpoint.expected(endpoint.request(batch))
        np.testing.assert_allclose(answers["output"], expected, atol=1e-6)
    with pytest.raises(ValueError, match="takes the inputs named"):
        endpoint.request({"left": PAIR[0], "right": PAIR[1]})


def test_measure_pairs_by_name_where_keras_would_pair_by_position():
    b, c = keras.Input((3,), name="b"), keras.Input((3,), name="c")
    model = keras.Model({"b": b, "c": c}, layers.Subtract()([b, c]))
    batch = {"a": 9 * PAIR[0], "b": PAIR[0], "c": PAIR[1]}
    (answers,) = load_runner(model)(batch).values()
    np.testing.assert_allclose(answers, PAIR[0] - PAIR[1], atol=1e-6)


def small_cnn(**options):
    return keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(3, **options)]
    )


def test_golden_answers_are_the_graphs_where_eager_rounds_otherwise():
    shrink = keras.Sequential(
        [
            keras.Input((20, 20, 3), dtype="uint8", name="image"),
            layers.Resizing(6, 6),
            layers.Rescaling(1 / 255),
        ]
    )
    images = RNG.integers(0, 256, (8, 20, 20, 3), "uint8")
    endpoint = make_endpoint(small_cnn(), preprocess=shrink)
    request = endpoint.request(images)
    in_graph = endpoint.expected(request)["logits"]
    gap = np.abs(in_graph - endpoint.eager(request)["logits"]).max()
    assert 1e-5 < gap < 0.1 * np.ptp(in_graph)


def test_a_model_that_is_another_as_a_graph_is_refused(tmp_path):
    class Counting(layers.Layer):
        calls = 0

        def call(self, x):
            self.calls += 1
            return x * self.calls

    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2)(Counting()(x)))
    with pytest.raises(VerificationError, match="other answers as a graph"):
        export(model, tmp_path, "m", verbose=False)


def test_a_model_that_answers_nan_is_refused_as_such(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, keras.ops.log(layers.Dense(2)(x) - 9.0))
    options = {"formats": "saved_model", "verbose": False}
    with pytest.raises(ValueError, match="is NaN for random ones"):
        export(model, tmp_path, "m", **options)
    with pytest.raises(VerificationError, match="answers NaN in its output"):
        export(model, tmp_path, "m", inputs=PAIR[0], **options)


def test_int8_of_unlike_quantities_is_refused_where_nothing_tells(tmp_path):
    """Its decisions, if it were of classes, are all kept."""
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2)(x))
    kernel = np.array([[1e-3, 1e3], [-1e-3, 1e3], [1e-3, 1e3]], "float32")
    model.layers[-1].set_weights([kernel, np.zeros(2, "float32")])
    options = {"formats": "tflite", "quantize": "int8", "verbose": 0}
    batch = RNG.random((32, 3), "float32")
    with pytest.raises(VerificationError, match="by `task` or `head` what the"):
        export(model, tmp_path, "m", inputs=batch, **options)


@keras.saving.register_keras_serializable("tests")
class Decode(layers.Layer):
    def call(self, files):
        return tf.map_fn(
            lambda file: tf.ensure_shape(
                tf.image.decode_png(file, channels=3), (6, 6, 3)
            ),
            files,
            fn_output_signature=tf.uint8,
        )

    def compute_output_spec(self, files):
        return keras.KerasTensor((None, 6, 6, 3), "uint8")


def test_export_takes_the_bytes_of_files(tmp_path):
    images = RNG.integers(0, 256, (4, 6, 6, 3), "uint8")
    files = [tf.io.encode_png(image).numpy() for image in images]
    decode = keras.Sequential(
        [keras.Input((), dtype="string", name="file"), Decode()]
    )
    model = small_cnn()
    options = {"formats": "saved_model", "preprocess": decode}
    with pytest.raises(ValueError, match="needs example inputs"):
        export(model, tmp_path, "m", verbose=False, **options)
    export(model, tmp_path, "m", verbose=False, inputs=files, **options)
    serve = tf.saved_model.load(str(tmp_path / "m" / "1"))
    answers = serve.signatures["serving_default"](file=tf.constant(files))
    np.testing.assert_allclose(
        answers["logits"], model(images.astype("float32")), atol=1e-4
    )
    endpoint = make_endpoint(model, preprocess=decode)
    with pytest.raises(ValueError, match="ends in a zero byte"):
        endpoint.request([b"file\0"])


def test_export_of_open_sizes_is_tried_with_the_inputs_given(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="ids"),
            layers.Embedding(9, 4),
            layers.Conv1D(4, 5),  # size 1 is too short for it
            layers.GlobalMaxPooling1D(),
            layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="ids.*int32 of shape"):
        export(model, tmp_path, "m", verbose=False)
    ids = RNG.integers(0, 9, (4, 12)).astype("int32")
    export(model, tmp_path, "m", inputs=ids, formats="tflite", verbose=False)
    for size in (12, 7):
        answers = run_tflite(tmp_path / "m" / "m.tflite", ids[:, :size])
        np.testing.assert_allclose(
            answers["logits"], model(ids[:, :size]), atol=1e-5
        )


def test_export_of_words_looks_them_up_in_litert(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string", name="word"),
            layers.StringLookup(vocabulary=["a", "b"]),
            layers.Embedding(4, 3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    words = np.array([["a"], ["b"], ["other"]])
    export(model, tmp_path, "m", inputs=words, formats="tflite", verbose=False)
    answers = run_tflite(tmp_path / "m" / "m.tflite", words)
    expected = model(tf.constant(words))
    np.testing.assert_allclose(answers["logits"], expected, atol=1e-6)


def test_export_in_mixed_precision_of_preprocess_and_tuples(tmp_path):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, pair):
            return self.dense(pair[0] - 2 * pair[1])

    @keras.saving.register_keras_serializable("tests")
    class Halve(layers.Layer):
        def call(self, pair):
            return pair[0] / 2, pair[1] / 2

    model, batch = Two(), tuple(PAIR)
    model(batch)
    export(
        model,
        tmp_path,
        "m",
        inputs=batch,
        preprocess=Halve(dtype="mixed_float16"),
        verbose=False,
    )
    named = {"input_0": PAIR[0], "input_1": PAIR[1]}
    # The names that the files have will do for the examples, too.
    by_name = make_endpoint(model, inputs=named)
    np.testing.assert_allclose(
        by_name.eager(by_name.request(named))["output"], model(batch)
    )
    lite = run_tflite(tmp_path / "m" / "m.tflite", named)
    expected = model((PAIR[0] / 2, PAIR[1] / 2))
    np.testing.assert_allclose(lite["output"], expected, atol=5e-3)


class Forgetful(keras.Model):
    """Answers from one of its two inputs."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs["used"])


def test_export_of_an_input_that_the_model_does_not_use(tmp_path):
    model, batch = Forgetful(), {"used": PAIR[0], "spare": PAIR[1]}
    model(batch)
    record = export(
        model, tmp_path, "m", "saved_model", inputs=batch, verbose=False
    )
    assert record.metrics["saved_model"]["max_difference"] < 1e-6


def test_export_refuses_stateful_layers_by_name(tmp_path):
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, 3)),
            layers.LSTM(2, stateful=True, name="memory"),
        ]
    )
    with pytest.raises(ValueError, match="'memory'.* are stateful"):
        export(model, tmp_path, "m", verbose=False)
    assert not (tmp_path / "m").exists()


def test_heads_by_output_name_and_regressions_by_their_loss():
    x = keras.Input((3,))
    kind = layers.Dense(4, activation="softmax", name="species")(x)
    age, sex = layers.Dense(1, name="age")(x), layers.Dense(1, name="sex")(x)
    model = keras.Model(x, {"species": kind, "age": age, "sex": sex})
    heads = {"species": "probabilities", "age": "regression", "sex": "logits"}
    answers = answer_function(model, heads)(PAIR[0])
    assert sorted(answers) == [
        "age",
        "sex_logits",
        "sex_probabilities",
        "species_logits",
        "species_probabilities",
    ]
    z = answers["species_logits"].numpy().astype("float64")
    np.testing.assert_allclose(
        np.exp(z) / np.exp(z).sum(-1, keepdims=True),
        answers["species_probabilities"],
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="must be a dict by the outputs"):
        answer_function(model, {"height": "regression"})(PAIR[0])
    task = kd.tasks.Composite(
        {
            "species": kd.tasks.Classification(),
            "age": kd.tasks.Regression(),
            "sex": kd.tasks.MultiLabel(),
        },
        headline="age",
    )
    assert head_of(model, None, task) == {**heads, "sex": "yes_no"}
    assert head_of(model, heads, task) == heads  # the user's word


def hidden_binary(y, z):
    return keras.losses.binary_crossentropy(y, z, from_logits=True)


@pytest.mark.parametrize(
    "units, activation, loss, task, expected",
    [
        (1, None, None, None, "sigmoid"),
        (1, None, "mse", None, ""),
        (1, None, keras.losses.Huber(), None, ""),
        (1, None, None, kd.tasks.Regression(), ""),
        (3, None, None, None, "softmax"),
        (3, "softmax", "mse", None, "softmax"),
        (3, None, None, kd.tasks.MultiLabel(), "sigmoid"),
        (3, "sigmoid", None, None, "sigmoid"),
        (3, None, keras.losses.BinaryCrossentropy(True), None, "sigmoid"),
        (3, None, [keras.losses.BinaryCrossentropy(True)], None, "sigmoid"),
        (3, None, hidden_binary, None, "sigmoid"),
        (1, None, ["mse"], None, ""),
        (3, None, None, kd.tasks.Classification(), "softmax"),
        (3, None, None, kd.tasks.Retrieval(), ""),
    ],
)
def test_an_output_is_what_task_activation_and_loss_say(
    units, activation, loss, task, expected
):
    dense = layers.Dense(units, activation=activation)
    model = keras.Sequential([keras.Input((3,)), dense])
    model.compile(loss=loss)
    answers = answer_function(model, head_of(model, None, task))(PAIR[0])
    if not expected:
        assert set(answers) == {"output"}
        return
    assert set(answers) == {"logits", "probabilities"}
    z = answers["logits"].numpy().astype("float64")
    odds = 1 / (1 + np.exp(-z))
    if expected == "softmax":
        odds = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    np.testing.assert_allclose(answers["probabilities"], odds, atol=1e-6)


def test_export_names_outputs_by_task_and_judges_int8_by_headline(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    hidden = layers.Dense(8, activation="relu")(x)
    model = keras.Model(
        x,
        {
            "kind": layers.Dense(3, name="kind")(hidden),
            "size": layers.Dense(1, name="size")(hidden),
        },
    )
    rows = RNG.normal(size=(64, 4)).astype("float32")
    outputs = model(rows)
    labels = {
        "kind": outputs["kind"].numpy().argmax(-1),
        "size": outputs["size"].numpy(),
    }
    tasks = {"kind": kd.tasks.Classification(), "size": kd.tasks.Regression()}
    options = {"formats": "tflite", "quantize": "int8", "verbose": 0}
    record = export(
        *(model, tmp_path, "m"),
        calibration=(rows, labels),
        task=tasks,
        **options,
    )
    found = record.metrics["tflite"]
    assert set(found["kept"]) == {"kind_logits", "size", "kind_accuracy"}
    judged = found["headlines"]
    assert judged["kind_accuracy"]["model"] == 1.0
    assert judged["size_mean_absolute_error"]["model"] < 1e-6
    path = tmp_path / "m" / "m.tflite"
    assert set(run_tflite(path, rows)) == {
        "kind_logits",
        "kind_probabilities",
        "size",
    }
    # `measure` reads what the file calls its outputs.
    measured = kd.measure(
        path, (rows, labels), task=tasks, headline="kind", latency=False
    )
    assert measured["kind_accuracy"] == judged["kind_accuracy"]["file"]


def test_int8_that_answers_the_same_to_everything_is_refused(tmp_path):
    """As happens to small answers far from zero: int8 has no steps there."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8,), name="x")
    shift = keras.initializers.Constant(20.0)
    dense = layers.Dense(1, bias_initializer=shift)
    model = keras.Model(x, dense(layers.Rescaling(0.02)(x)))
    batch = RNG.random((64, 8), "float32")
    with pytest.raises(VerificationError, match="costs more than is allowed"):
        export(
            model,
            tmp_path,
            "m",
            formats="tflite",
            quantize="int8",
            head="regression",
            inputs=batch,
            verbose=False,
        )
    assert os.listdir(tmp_path / "m") == []
