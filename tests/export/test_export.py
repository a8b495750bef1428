# SPDX-License-Identifier: Apache-2.0
"""export(): real models, loaded by the real runtimes."""

from __future__ import annotations

import importlib
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd
import keras_kd.export
from keras_kd.core.file_lock import LOCK
from keras_kd.core.leases import STAGED
from keras_kd.core.records import file_sha256
from keras_kd.export import VerificationError
from keras_kd.export import export
from keras_kd.export import run_tflite
from keras_kd.export.publishing.staging import staging

layers = keras.layers


def serve(folder, **inputs):
    """Returns the answers of a SavedModel, by tf.saved_model."""
    loaded = tf.saved_model.load(str(folder))
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    answers = loaded.signatures["serving_default"](**tensors)
    return {key: value.numpy() for key, value in answers.items()}


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True), dtype="float64")
    return x / x.sum(-1, keepdims=True)


def test_export_answers_as_the_model_does(exported):
    answers = serve(exported.version, image=exported.images)
    assert sorted(answers) == ["logits", "probabilities"]
    np.testing.assert_allclose(answers["logits"], exported.logits, atol=1e-5)
    np.testing.assert_allclose(
        answers["probabilities"], softmax(exported.logits), atol=1e-5
    )
    lite = run_tflite(exported.tflite, exported.images)
    np.testing.assert_allclose(lite["logits"], exported.logits, atol=1e-5)


def test_export_record_holds_figures_and_hashes(exported):
    record = exported.record
    assert record.stage == "export"
    assert record.metrics["saved_model"]["version"] == 1
    for figures in record.metrics.values():
        assert figures["bytes"] > 1000
        assert 0 <= figures["max_difference"] < 1e-4
    for path, sha256 in record.artefacts.items():
        assert file_sha256(exported.folder / path) == sha256
    assert "cnn/cnn.tflite" in record.artefacts
    assert "cnn/1/saved_model.pb" in record.artefacts
    assert record.metrics["tflite"]["bytes"] == os.path.getsize(exported.tflite)


def test_export_leaves_only_finished_files(exported):
    assert sorted(os.listdir(exported.folder / "cnn")) == [
        LOCK,
        "1",
        "cnn.tflite",
        "cnn.tflite.golden.npz",
        "cnn.tflite.manifest.json",
        "serving",
    ]


def test_export_package_is_callable_as_the_function(tmp_path):
    with pytest.raises(ValueError, match="formats"):
        keras_kd.export(None, tmp_path, "x", formats=["onnx"])


@pytest.mark.parametrize(
    "name", ["../x", "1/../../x", "/tmp/x", "", "a b", "x\n", "."]
)
def test_export_refuses_name_before_anything_is_written(tmp_path, name):
    folder = tmp_path / "inside"
    with pytest.raises(ValueError, match="`name` becomes a folder's name"):
        export(None, folder, name)
    assert not folder.exists()
    assert os.listdir(tmp_path) == []


def test_export_refuses_link_to_another_place(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "student").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="is a link"):
        export(None, tmp_path, "student")
    assert os.listdir(tmp_path / "outside") == []


def test_export_publishes_nothing_when_one_format_fails(tmp_path):
    text = layers.TextVectorization(max_tokens=9, output_sequence_length=3)
    text.adapt(["a b c"])
    model = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            text,
            layers.Embedding(9, 2),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    # LiteRT has no text operations; the SavedModel alone would be fine.
    with pytest.raises(RuntimeError, match="LiteRT"):
        export(model, tmp_path, "text", verbose=False)
    assert os.listdir(tmp_path / "text") == []
    record = export(model, tmp_path, "text", "saved_model", verbose=False)
    assert record.metrics["saved_model"]["max_difference"] < 1e-6
    assert (tmp_path / "text" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
def test_export_publishes_nothing_when_verification_fails(
    tmp_path, monkeypatch
):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    # By name: the package's attribute `export` is the function.
    module = importlib.import_module("keras_kd.export.export")
    real = module.write_saved_model

    def forgetful(model, directory, **options):
        weights = model.get_weights()
        model.set_weights([w * 0 for w in weights])
        real(model, directory, **options)
        model.set_weights(weights)
        return directory

    monkeypatch.setattr(module, "write_saved_model", forgetful)
    with pytest.raises(VerificationError, match="not the model that was"):
        export(model, tmp_path, "student", verbose=False)
    assert os.listdir(tmp_path / "student") == []


@pytest.mark.slow
def test_export_dict_of_int_and_float_with_recurrent_softmax(tmp_path):
    ids = keras.Input((6,), dtype="int32", name="ids")
    extra = keras.Input((2,), name="extra")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    x = layers.Concatenate()([layers.LSTM(3)(x), extra])
    out = layers.Dense(4, activation="softmax")(x)
    model = keras.Model({"ids": ids, "extra": extra}, out)
    batch = {
        "ids": np.array([[1, 2, 3, 0, 0, 0], [8, 1, 4, 4, 5, 6]], "int32"),
        "extra": np.array([[1.0, 50.0], [2.0, -90.0]], "float32"),
    }
    export(model, tmp_path, "text", inputs=batch, verbose=False)
    expected = model.predict(batch, verbose=0)
    for answers in (
        serve(tmp_path / "text" / "1", **batch),
        run_tflite(tmp_path / "text" / "text.tflite", batch),
    ):
        probabilities = answers["probabilities"]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        # Logits are known up to a constant per row.
        np.testing.assert_allclose(
            softmax(answers["logits"]), expected, atol=1e-5
        )
        assert np.isfinite(answers["logits"]).all()


def test_export_sigmoid_in_mixed_precision_answers_in_float32(tmp_path):
    image = keras.Input((8, 8, 1))
    mixed = {"dtype": "mixed_float16"}
    x = layers.Conv2D(3, 3, activation="relu", **mixed)(image)
    x = layers.Flatten(**mixed)(x)
    model = keras.Model(image, layers.Dense(1, "sigmoid", **mixed)(x))
    model.dtype_policy = "mixed_float16"
    batch = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    record = export(model, tmp_path, "m", inputs=batch, verbose=False)
    assert record.metrics["tflite"]["tolerance"] == 1e-2
    expected = model.predict(batch, verbose=0)
    assert expected.dtype == "float16"
    for answers in (
        serve(tmp_path / "m" / "1", input=batch),
        run_tflite(tmp_path / "m" / "m.tflite", {"input": batch}),
    ):
        assert {a.dtype.name for a in answers.values()} == {"float32"}
        p, z = answers["probabilities"], answers["logits"]
        np.testing.assert_allclose(p, expected, atol=2e-3)
        np.testing.assert_allclose(1 / (1 + np.exp(-z)), p, atol=1e-3)
    assert model.layers[1].compute_dtype == "float16"


def test_export_regression_answers_numbers_in_both_formats(tmp_path):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="measurements")
    model = keras.Model(x, layers.Dense(1)(layers.Dense(30, "tanh")(x)))
    batch = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    options = {"inputs": batch, "quantize": [None, "int8"], "verbose": False}
    export(model, tmp_path, "price", head="regression", **options)
    expected = model.predict(batch, verbose=0)
    folder = tmp_path / "price"
    answers = serve(folder / "1", measurements=batch)
    assert sorted(answers) == ["output"]
    np.testing.assert_allclose(answers["output"], expected, atol=1e-5)
    for kind, limit in (("float32", 1e-5), ("int8", 0.05 * np.ptp(expected))):
        lite = run_tflite(folder / f"price.{kind}.tflite", batch)
        assert np.abs(lite["output"] - expected).max() < limit


class Subclassed(keras.Model):
    """Integer inputs and two named outputs, without a graph to read."""

    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(7, 3)
        self.scores = layers.Dense(4)

    def call(self, ids):
        x = keras.ops.mean(self.embed(ids), axis=1)
        return {"embedding": x, "scores": self.scores(x)}


@pytest.mark.slow
def test_export_subclassed_model_with_several_outputs(tmp_path):
    model = Subclassed()
    ids = np.array([[1, 2, 6], [0, 3, 5]], "int32")
    model(ids)
    export(model, tmp_path, "sub", inputs=ids, verbose=False)
    expected = model.predict(ids, verbose=0)
    for answers in (
        serve(tmp_path / "sub" / "1", input=ids),
        run_tflite(tmp_path / "sub" / "sub.tflite", {"input": ids}),
    ):
        assert set(answers) == {"embedding", "scores"}
        for key, array in expected.items():
            np.testing.assert_allclose(answers[key], array, atol=1e-6)


KILLED = """
import importlib, os, signal, sys
import keras
module = importlib.import_module("keras_kd.export.export")
module.release = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
module.export(model, sys.argv[1], "student", formats=["saved_model"])
"""


@pytest.mark.slow
def test_export_killed_before_the_rename_publishes_nothing(tmp_path):
    root = str(pathlib.Path(keras_kd.__file__).parents[1])
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    left = os.listdir(tmp_path / "student")
    assert left and all(name.startswith(STAGED) for name in left)
    for name in left:  # nobody has used them for a while
        os.utime(tmp_path / "student" / name, (0, 0))
    with staging(tmp_path / "student") as folder:
        assert os.listdir(tmp_path / "student") == [folder.name]
