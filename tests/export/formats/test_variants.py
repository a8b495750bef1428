# SPDX-License-Identifier: Apache-2.0
"""export() of several .tflite files at once, calibrated on drawn inputs."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data.splits import Data
from keras_kd.export import export
from keras_kd.export import export_formats
from keras_kd.export import run_tflite
from keras_kd.export import verify_directory
from keras_kd.export.formats.variants import file_name
from keras_kd.export.formats.variants import variants
from keras_kd.quantization.representative import draw

ALL = (None, "float16", "dynamic", "int8", "full_int8")


@pytest.fixture(scope="module")
def student():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((64,), name="x"),
            layers.Dense(64, activation="relu"),
            layers.Dense(5),
        ]
    )


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).random((400, 64), "float32")
    return Data(train=(x, np.arange(400) % 5), validation=(x[:5], np.arange(5)))


@pytest.mark.slow
def test_export_writes_and_verifies_a_file_for_each_choice(
    student, data, tmp_path
):
    record = export(
        student,
        tmp_path,
        "m",
        formats="tflite",
        quantize=ALL,
        calibration=data,
        samples=30,
        verbose=False,
    )
    rows = [r for r in export_formats() if r.quantize in ALL][1:]
    kinds = [row.name for row in rows]
    assert kinds == ["float32", "float16", "dynamic", "int8", "full_int8"]
    files = {r.name: tmp_path / r.file.replace("student", "m") for r in rows}
    x = data.train[0][:40]
    logits = student.predict(x, verbose=0)
    for kind, path in files.items():
        metrics = record.metrics[f"tflite.{kind}"]
        assert metrics["bytes"] == path.stat().st_size
        assert f"m/{path.name}" in record.artefacts
        gap = np.abs(run_tflite(path, x)["logits"] - logits).max()
        assert gap <= metrics["tolerance"] * max(1, np.abs(logits).max())
    sizes = [files[kind].stat().st_size for kind in kinds]
    assert sizes[0] > sizes[1] > max(sizes[2:])
    assert record.settings["calibrated_on"] == 30
    assert record.settings["quantize"] == list(ALL)
    checked = dict(verify_directory(tmp_path / "m"))
    assert checked == dict.fromkeys(files.values())


@pytest.mark.slow
def test_export_publishes_no_file_if_one_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(RuntimeError, match='quantize="float16" does not make'):
        export(model, tmp_path, "m", quantize=(None, "float16"), verbose=False)
    assert os.listdir(tmp_path / "m") == []


def test_variants_names_files_by_choice():
    assert variants("int8") == {"tflite": "int8"}
    assert variants([None, "int8"]) == {
        "tflite.float32": None,
        "tflite.int8": "int8",
    }
    assert file_name("student", "tflite") == "student.tflite"
    assert file_name("student", "tflite.int8") == "student.int8.tflite"


@pytest.mark.parametrize("bad", [(), ("int8", "int8"), ("int3",), "int3"])
def test_variants_refuses_wrong_choices(bad):
    with pytest.raises(ValueError, match="`quantize` must be one"):
        variants(bad)


def test_draw_is_random_seeded_and_without_repetition():
    x = np.arange(1000)
    drawn = draw((x, x), 100)
    assert len(set(drawn)) == 100
    np.testing.assert_array_equal(drawn, draw(x, 100))
    assert not np.array_equal(drawn, draw(x, 100, seed=1))
    # The mean of a fair sample of 100 of 0..999 lies within 4 deviations.
    assert abs(drawn.mean() - 499.5) < 4 * 289 / 10
    assert sorted(draw(x[:7], 100)) == list(range(7))


def test_draw_gives_each_example_of_a_stream_the_same_chance():
    dataset = tf.data.Dataset.range(40).map(lambda i: ({"x": i}, i)).batch(7)
    counts = np.zeros(40)
    for seed in range(100):
        drawn = draw(dataset, 20, seed)["x"]
        assert len(set(drawn)) == 20
        counts[drawn] += 1
    # Each is expected 50 times, with a deviation of about 5.
    assert counts.min() > 20 and counts.max() < 80


@pytest.mark.parametrize(
    "call",
    [lambda: draw(np.arange(3), 0), lambda: draw(np.empty((0, 2)), 5)]
    + [lambda: draw(tf.data.Dataset.range(0).batch(2), 5)],
)
def test_draw_refuses_nothing(call):
    with pytest.raises(ValueError, match="at least"):
        call()
