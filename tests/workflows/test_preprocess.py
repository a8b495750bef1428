# SPDX-License-Identifier: Apache-2.0
"""Files of a compression may take what clients send, see `preprocess`."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_kd as kd
from keras_kd.data.preprocessing import preprocessed
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
