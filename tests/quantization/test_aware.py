# SPDX-License-Identifier: Apache-2.0
"""quantization_aware(): the twin feels what the int8 file will answer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_kd.core.copying import copy_of
from keras_kd.distillers.distiller import Distiller
from keras_kd.export import export
from keras_kd.export import run_tflite
from keras_kd.quantization import FakeQuantize
from keras_kd.quantization import quantization_aware
from replicas import two_replicas
from selection import quick

CLASSES = 4


def student():
    """Folding, a residual, a split activation, fused ReLUs, an offset."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    y = layers.Conv2D(8, 1)(y)
    x = layers.ReLU()(layers.Add()([x, layers.Dropout(0.2)(y)]))
    x = layers.Conv2D(8, 1, activation="silu", name="silu")(x)
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    model = keras.Model(image, layers.Dense(CLASSES, name="logits")(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights(
                [w + 0.3 * rng.random(w.shape) for w in layer.get_weights()]
            )
    return model


@pytest.fixture(scope="module")
def images():
    """Four kinds of texture in noise, and which they are."""
    rng = np.random.default_rng(0)
    y = np.arange(256) % CLASSES
    waves = np.sin(np.arange(8)[None] * (1 + y[:, None]) * 0.7)
    x = 127 + 60 * waves[:, :, None, None] + rng.normal(0, 25, (256, 8, 8, 3))
    return np.clip(x, 0, 255).astype("float32"), y


def quantum_of(model):
    last = model.layers[-1]
    return float(last.highest - last.lowest) / 255


@pytest.fixture(scope="module")
def distilled(images):
    """A twin that a teacher taught, so that its ranges have moved."""
    x, y = images
    model, teacher = student(), student()
    aware = quantization_aware(model, x)
    before = ranges_of(aware)
    distiller = Distiller(teacher, aware, temperature=2.0, alpha=0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(2e-3), loss)
    history = distiller.fit(x, y, batch_size=32, epochs=6, verbose=0)
    return aware, before, history.history


def ranges_of(model):
    return {
        layer.name: tuple(
            float(keras.ops.convert_to_numpy(variable.value))
            for variable in (layer.lowest, layer.highest)
        )
        for layer in model.layers
        if isinstance(layer, FakeQuantize)
    }


@pytest.mark.slow
def test_aware_student_learns_from_its_teacher(distilled, images):
    aware, before, history = distilled
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    after = ranges_of(aware)
    moved = [name for name in after if after[name] != before[name]]
    assert "logits_int8" in moved and "re_lu_int8" in moved
    assert after["silu_gate_int8"] == before["silu_gate_int8"]
    assert not [
        layer.name
        for layer in aware.layers
        if isinstance(layer, layers.BatchNormalization)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("quantize", quick(1, ["int8", "full_int8"]))
def test_int8_file_answers_as_the_aware_student(
    distilled, images, tmp_path, quantize
):
    aware, _, _ = distilled
    x = images[0]
    # Inputs of another range: what is learned holds, not what they show.
    export(
        aware,
        tmp_path,
        "m",
        formats="tflite",
        quantize=quantize,
        inputs=x[:20] / 100,
        verbose=False,
    )
    path = tmp_path / "m" / "m.tflite"
    gap = run_tflite(path, x)["logits"] - aware.predict(x, verbose=0)
    quanta = np.abs(np.round(gap / quantum_of(aware)))
    assert np.mean(quanta == 0) > 0.8 and np.mean(quanta <= 1) > 0.99
    assert quanta.max() <= 3
    assert_learned_ranges(path, aware)


def assert_learned_ranges(path, aware):
    tensors = Interpreter(model_path=str(path)).get_tensor_details()
    scales = [t["quantization_parameters"]["scales"] for t in tensors]
    scales = np.array([s[0] for s in scales if len(s) == 1])
    for name, (lowest, highest) in ranges_of(aware).items():
        scale = (highest - lowest) / 255
        assert np.min(np.abs(scales / scale - 1)) < 1e-4, name
    # Only what goes in and out may be float.
    floats = [t for t in tensors if t["dtype"] == np.float32]
    assert len(floats) <= 3


def test_untrained_aware_student_is_close_to_the_student(images):
    model = student()
    before = model.get_weights()
    x = images[0]
    aware = quantization_aware(model, x, samples=256)
    gap = np.abs(aware.predict(x, verbose=0) - model.predict(x, verbose=0))
    # Roundings add up along the layers; without rounding it would be 0.
    assert 0 < gap.max() < 12 * quantum_of(aware)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert ranges_of(aware)["image_int8"] == (0.0, x.max())


@pytest.mark.slow
def test_aware_student_trains_compiled_in_half_precision_and_on_replicas(
    images,
):
    x, y = images
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with two_replicas().scope():
        aware = quantization_aware(student(), x[:32])
        aware.compile("adam", loss)
    before = ranges_of(aware)
    aware.fit(x, y, batch_size=32, verbose=0)
    assert ranges_of(aware)["logits_int8"] != before["logits_int8"]
    half = copy_of(aware)
    for layer in half.layers:
        layer.dtype_policy = keras.DTypePolicy("mixed_float16")
    half.compile("adam", loss, jit_compile=True)
    history = half.fit(x, y, batch_size=32, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert ranges_of(half)["logits_int8"] != ranges_of(aware)["logits_int8"]


def test_aware_student_is_exported_in_integers_only(images, tmp_path):
    aware = quantization_aware(student(), images[0])
    with pytest.raises(ValueError, match="computes in int8"):
        export(aware, tmp_path, "m", formats="tflite", verbose=False)


def nested():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="in")
    return keras.Sequential([keras.Input((4,)), inner])


REFUSED = [
    (lambda: keras.Sequential([layers.Dense(2)]), "without a graph"),
    (nested, "Layer 'in' is a Sequential"),
    (
        lambda: keras.Sequential(
            [keras.Input((4, 2)), layers.LSTM(3, name="memory")]
        ),
        "Layer 'memory' is a LSTM",
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_quantization_aware_names_what_it_refuses(number):
    build, text = REFUSED[number]
    with pytest.raises(ValueError, match=text):
        quantization_aware(build(), np.ones((4, 4), "float32"))


def test_quantization_aware_names_quantised_and_adapted_layers(tmp_path):
    def dense():
        return keras.Sequential([keras.Input((8,)), layers.Dense(4, name="d")])

    x = np.ones((2, 8), "float32")
    quantised = dense()
    quantised.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="'d' was quantised by Keras"):
        quantization_aware(quantised, x)
    adapted = dense()
    adapted.layers[0].enable_lora(2)
    adapted.layers[0].lora_kernel_b.assign(np.ones((2, 4)))
    with pytest.raises(ValueError, match="'d' is adapted by LoRA"):
        quantization_aware(adapted, x)
    # What the message advises.
    adapted.save_weights(tmp_path / "w.weights.h5")
    merged = dense()
    merged.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(merged(x), adapted(x), atol=1e-6)
    quantization_aware(merged, x)
