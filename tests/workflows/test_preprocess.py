# SPDX-License-Identifier: Apache-2.0
"""Files of a compression may take what clients send, see `preprocess`."""

from __future__ import annotations

import json
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.data.preprocessing import preprocessed
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.export.verification.golden import read_golden
from keras_kd.training.settings_json import as_json

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (48, 4, 4), "uint8")
Y = (PIXELS[:, :2].mean(axis=(1, 2)) > 127).astype("int64")
RAW = kd.Data(train=(PIXELS, Y), validation=(PIXELS[:16], Y[:16]))


def scaled():
    inputs = keras.Input((4, 4), dtype="uint8", name="pixels")
    return keras.Model(inputs, layers.Rescaling(1 / 255)(inputs))


def build():
    scores = [layers.Flatten(), layers.Dense(2)]
    return keras.Sequential([keras.Input((4, 4)), *scores])


def test_arrays_and_data_sets_are_preprocessed_alike():
    found = preprocessed(RAW, scaled())
    np.testing.assert_allclose(found.train[0], PIXELS / 255, rtol=1e-6)
    np.testing.assert_array_equal(found.train[1], Y)
    assert found.reported_split == "validation"
    stream = tf.data.Dataset.from_tensor_slices((PIXELS, Y)).batch(16)
    data = kd.Data(stream, RAW.validation, RAW.train, identity="pixels 1")
    of_stream = preprocessed(data, layers.Rescaling(1 / 255))
    x, y = next(of_stream.train.as_numpy_iterator())
    np.testing.assert_array_equal(x, found.train[0][:16])
    np.testing.assert_array_equal(y, Y[:16])
    assert of_stream.reported_split == "test"
    assert of_stream.identity != "pixels 1"


def test_preprocessed_arrays_are_not_held_in_memory():
    pixels = RNG.integers(0, 256, (4_000, 32, 32), "uint8")
    data = kd.Data((pixels, np.zeros(4_000)), RAW.validation)
    layer = layers.Rescaling(1 / 255)
    preprocessed(RAW, layer)  # traced
    tracemalloc.start()
    (found, _) = preprocessed(data, layer).train
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nbytes == 4 * pixels.nbytes
    assert peak < found.nbytes / 4
    np.testing.assert_allclose(found[-5:], pixels[-5:] / 255, rtol=1e-6)


def test_what_a_layer_makes_of_text_and_of_several_inputs():
    x = {"word": np.array(["A", "bc"] * 150), "n": np.arange(300)}
    data = kd.Data((x, np.zeros(300)), (x, np.zeros(300)))

    class Both(layers.Layer):
        def call(self, x):
            return {"low": tf.strings.lower(x["word"]), "n": x["n"] * 2}

    found = preprocessed(data, Both()).train[0]
    assert list(found["low"][-2:]) == [b"a", b"bc"]
    np.testing.assert_array_equal(found["n"], 2 * x["n"])


def test_examples_of_several_sizes_are_refused():
    longer = layers.Lambda(lambda x: x[:, : 1 + tf.reduce_max(x)])
    x = np.repeat([[0, 0, 0, 0], [2, 0, 0, 0]], 256, axis=0)
    data = kd.Data((x, np.zeros(512)), (x[:2], np.zeros(2)))
    with pytest.raises(ValueError, match="must have one size in all batches"):
        preprocessed(data, longer)


def test_models_and_files_are_timed_in_one_go_each_on_its_own_inputs(
    monkeypatch,
):
    calls = []
    monkeypatch.setattr(
        "keras_kd.evaluation.evaluator.latency",
        lambda *args, **kwargs: calls.append((args, kwargs)) or {},
    )
    data = preprocessed(RAW, layers.Rescaling(1 / 255))
    judge = Evaluator(None, data, files=RAW)
    judge.latencies({"student": "a.keras"}, {"int8": "b.tflite"})
    (((artefacts, inputs), options),) = calls
    assert list(artefacts) == ["student", "int8"]
    np.testing.assert_array_equal(inputs, data.validation[0])
    (raw,) = options["own_inputs"].values()
    np.testing.assert_array_equal(raw, PIXELS[:16])


def test_a_run_that_goes_on_knows_its_layer_again():
    kept = json.dumps(as_json({"preprocess": scaled()}))
    assert json.dumps(as_json({"preprocess": scaled()})) == kept
    other = keras.Sequential([keras.Input((4, 4)), layers.Rescaling(1 / 16)])
    assert json.dumps(as_json({"preprocess": other})) != kept


def test_what_is_no_layer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`preprocess` must be a keras.Layer"):
        kd.compress(
            build(), build, RAW, tmp_path / "it", preprocess=lambda x: x / 255
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_files_take_raw_inputs_and_answer_as_the_model(tmp_path):
    report = kd.compress(
        build(),
        build,
        RAW,
        tmp_path / "it",
        preprocess=scaled(),
        epochs=3,
        learning_rate=0.1,
        seeds=(0,),
        prune=None,
        quantize=[None, "int8"],
        verbose=0,
    )
    rows = {record.name: record.metrics for record in report.records}
    student = rows["distilled"]["accuracy"]
    assert rows["SavedModel"]["accuracy"] == student
    assert rows[".float32.tflite"]["accuracy"] == student
    assert rows[".int8.tflite"]["accuracy"] == pytest.approx(student, abs=0.2)
    assert rows["SavedModel"]["latency_ms_p50"] > 0
    file = tmp_path / "it" / "it.float32.tflite"
    kept = kd.measure(file, RAW.validation, latency=False)
    assert kept["accuracy"] == student
    assert read_golden(file).inputs["pixels"].dtype == np.uint8
