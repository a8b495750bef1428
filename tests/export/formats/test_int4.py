# SPDX-License-Identifier: Apache-2.0
"""int4 weights: smaller than int8's, or refused with the figures."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from keras_kd.evaluation.parameters import count_parameters
from keras_kd.export import VerificationError
from keras_kd.export import export
from keras_kd.export import run_tflite
from keras_kd.export import write_tflite

layers = keras.layers
RNG = np.random.default_rng(0)


def classifier(width):
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(width, activation="relu")
    return keras.Sequential([keras.Input((32,)), hidden, layers.Dense(4)])


def test_int4_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(ImportError, match=r"keras_kd\[int4\]"):
        export(
            *(classifier(8), tmp_path, "m", "tflite", "int4"),
            inputs=RNG.normal(size=(8, 32)).astype("float32"),
            verbose=0,
        )


def test_int4_is_judged_by_real_inputs_and_never_sparse(tmp_path):
    with pytest.raises(ValueError, match="to be judged by"):
        export(classifier(8), tmp_path, "m", "tflite", "int4", verbose=0)
    with pytest.raises(ValueError, match="no sparse kernels"):
        write_tflite(tmp_path, tmp_path / "m", quantize="int4", sparse=True)


def test_int4_is_smaller_than_int8_weights_or_refused(tmp_path, capfd):
    x = RNG.normal(size=(256, 32)).astype("float32")
    model = classifier(256)
    given = {"inputs": x, "formats": "tflite", "verbose": 0}
    record = export(model, tmp_path, "m", quantize=["dynamic", "int4"], **given)
    found = record.metrics
    size = found["tflite.int4"]["bytes"]
    assert size < 0.7 * found["tflite.dynamic"]["bytes"]
    kept = found["tflite.int4"]["kept"]["logits"]
    decided = run_tflite(tmp_path / "m" / "m.int4.tflite", x)["logits"]
    same = (decided.argmax(1) == model(x).numpy().argmax(1)).mean()
    assert same == kept > 0.75
    counted = count_parameters(tmp_path / "m" / "m.int4.tflite")
    assert counted[0] == 32 * 256 + 256 * 4  # biases are zero, and dropped
    assert 0.7 * counted[0] < counted[1] < counted[0]  # some round to zero
    assert "Model name" not in capfd.readouterr().out
    with pytest.raises(VerificationError, match="It keeps 0.* of `logits`"):
        export(model, tmp_path, "n", quantize="int4", tolerance=1e-3, **given)


@pytest.mark.slow
def test_int4_that_is_no_smaller_is_refused_with_the_figures(tmp_path):
    words = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(200, 16),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    ids = RNG.integers(0, 200, (16, 4)).astype("int32")
    with pytest.raises(RuntimeError, match='bytes, against .* by "dynamic"'):
        export(*(words, tmp_path, "m", "tflite", "int4"), inputs=ids, verbose=0)
