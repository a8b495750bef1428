# SPDX-License-Identifier: Apache-2.0
"""write_tflite() and run_tflite(): sizes, numbers, refusals."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest

from keras_kd.export import run_tflite
from keras_kd.export import write_saved_model
from keras_kd.export import write_tflite

layers = keras.layers


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A SavedModel of 1.2 MB, 80 % of whose kernel weights are zero."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((512,), name="x"),
            layers.Dense(580, activation="relu"),
            layers.Dense(10),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            w * (rng.random(w.shape) < 0.2) if w.ndim > 1 else w
            for w in model.get_weights()
        ]
    )
    folder = tmp_path_factory.mktemp("pruned") / "model"
    write_saved_model(model, folder, batch_size=1)
    x = rng.random((20, 512), "float32")
    return folder, x, model.predict(x, verbose=0)


@pytest.mark.parametrize(
    "quantize, share, tolerance",
    [(None, 0.4, 1e-5), ("float16", 0.25, 1e-3), ("dynamic", 0.3, 0.05)]
    + [("int8", 0.35, 0.05)],
)
def test_write_tflite_is_small_and_right(
    pruned, tmp_path, quantize, share, tolerance
):
    source, x, expected = pruned
    path = tmp_path / "model.tflite"
    write_tflite(source, path, quantize=quantize, representative={"x": x})
    dense = 4 * (512 * 580 + 580 * 10)
    assert path.stat().st_size < share * dense
    logits = run_tflite(path, x)["logits"]
    assert np.abs(logits - expected).max() < tolerance
    # A file that dropped its weights would answer the same to everything.
    assert np.abs(expected - expected.mean(0)).max() > 2 * tolerance
    assert os.listdir(tmp_path) == ["model.tflite"]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"quantize": "int4"}, "`quantize` must be one of"),
        ({"quantize": "int8"}, "needs real inputs"),
    ],
)
def test_write_tflite_refuses_options(pruned, tmp_path, options, text):
    with pytest.raises(ValueError, match=text):
        write_tflite(pruned[0], tmp_path / "m.tflite", **options)


def test_run_tflite_refuses_wrong_requests(exported):
    images = exported.images
    with pytest.raises(ValueError, match="has shape"):
        run_tflite(exported.tflite, images[..., 0])
    with pytest.raises(ValueError, match="has shape"):
        run_tflite(exported.tflite, images[:, :4])
    with pytest.raises(ValueError, match="takes the inputs"):
        run_tflite(exported.tflite, {"picture": images})
