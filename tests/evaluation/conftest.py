# SPDX-License-Identifier: Apache-2.0
"""One small model trained on real digits, and every file made of it."""

from __future__ import annotations

import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets


@pytest.fixture(scope="session")
def digits():
    """8x8 digits, values 0 to 16: `train` and `test` as (x, y)."""
    found = datasets.load_digits()
    x = found.images[..., None].astype("float32")
    y = found.target.astype("int64")
    return types.SimpleNamespace(
        train=(x[:1200], y[:1200]), test=(x[1200:], y[1200:])
    )


@pytest.fixture(scope="session")
def trained(digits):
    """A compiled model, so that it has optimizer state to leave out."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*digits.train, epochs=5, batch_size=64, verbose=0)
    layer = model.get_layer("hidden")
    kernel, bias = layer.get_weights()
    # Exactly half of the hidden kernel, so that counts are known.
    order = np.abs(kernel).argsort(axis=None)
    kernel.ravel()[order[: kernel.size // 2]] = 0.0
    layer.set_weights([kernel, bias])
    return model


@pytest.fixture(scope="session")
def artefacts(trained, digits, tmp_path_factory) -> dict[str, pathlib.Path]:
    """The model as .keras, SavedModel and .tflite files of four kinds."""
    folder = tmp_path_factory.mktemp("artefacts")
    paths = {"keras": folder / "model.keras", "saved_model": folder / "1"}
    trained.save(paths["keras"])

    def serve(image):
        logits = trained(image, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    archive = keras.export.ExportArchive()
    spec = tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")
    archive.add_endpoint("serve", serve, input_signature=[spec])
    archive.write_out(paths["saved_model"], verbose=False)

    def convert(name, optimizations=(), is_integer=False, batch=None):
        source = str(paths["saved_model"])
        if batch is None:
            converter = tf.lite.TFLiteConverter.from_saved_model(source)
        else:
            loaded = tf.saved_model.load(source)
            function = loaded.signatures["serving_default"]
            fixed = tf.function(lambda image: function(image=image))
            concrete = fixed.get_concrete_function(
                tf.TensorSpec((batch, 8, 8, 1), tf.float32, name="image")
            )
            converter = tf.lite.TFLiteConverter.from_concrete_functions(
                [concrete], loaded
            )
        converter.optimizations = list(optimizations)
        if is_integer:
            images = digits.train[0][:64]
            converter.representative_dataset = lambda: (
                [image[None]] for image in images
            )
            ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.target_spec.supported_ops = ops
            converter.inference_input_type = tf.int8
            converter.inference_output_type = tf.int8
        paths[name] = folder / f"{name}.tflite"
        paths[name].write_bytes(converter.convert())

    convert("float32")
    convert("fixed_batch", batch=8)
    convert("sparse", [tf.lite.Optimize.EXPERIMENTAL_SPARSITY])
    convert("int8", [tf.lite.Optimize.DEFAULT], is_integer=True)
    return paths
