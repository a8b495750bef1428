# SPDX-License-Identifier: Apache-2.0
"""Names, preprocessing, labels and extra signatures, served for real."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import VerificationError
from keras_kd.export import export
from keras_kd.export import read_labels
from keras_kd.export import read_warmup
from keras_kd.export import run_tflite
from keras_kd.export import verify_directory
from keras_kd.export import write_saved_model
from keras_kd.export.manifest import golden_path
from keras_kd.export.manifest import write_manifest
from keras_kd.export.signatures.endpoint import make_endpoint
from keras_kd.export.verification.c_api import __file__ as C_API
from keras_kd.export.verification.golden import write_golden
from selection import quick

layers = keras.layers
LABELS = ["ankle boot", "bag", "coat"]
# Asks each signature, right and wrong, as a server would: in C.
ASK = """
import json, pathlib, sys
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import numpy as np
from c_api import SavedModelSession
session = SavedModelSession(sys.argv[2])
found = {}
for signature in ("serving_default", "features"):
    for shape in [(2, 8, 8, 1), (8, 8, 1), (2,), (), (2, 6, 6, 1)]:
        try:
            request = {"image": np.zeros(shape, "uint8")}
            answer = sorted(session.run(request, signature))
        except RuntimeError as error:
            answer = str(error)
        found[f"{signature} {len(shape)} {shape[1:2]}"] = answer
print(json.dumps(found))
"""


def classifier():
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    model = keras.Model(image, layers.Dense(3)(x))
    features = keras.Model(image, model.get_layer("pooled").output)
    return model, features


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """An export with every option at once, and what it was made of."""
    model, features = classifier()
    folder = tmp_path_factory.mktemp("full")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), "uint8")
    record = export(
        model,
        folder,
        "full",
        quantize="int8",
        inputs=images,
        preprocess=layers.Rescaling(1 / 255),
        names={"input": "image", "probabilities": "confidence"}
        | {"classes": "article"},
        labels=LABELS,
        top_k=2,
        signatures={"features": features},
        verbose=False,
    )
    return folder / "full", model, features, images, record


def test_export_with_every_option_answers_as_the_parts_do(full):
    folder, model, features, images, record = full
    loaded = tf.saved_model.load(str(folder / "1"))
    serve = loaded.signatures["serving_default"]
    assert sorted(serve.structured_outputs) == [
        "article",
        "confidence",
        "logits",
        "scores",
    ]
    (spec,) = serve.structured_input_signature[1].values()
    assert (spec.name, spec.dtype) == ("image", tf.uint8)
    assert tuple(spec.shape) == (None, 8, 8, 1)
    answers = serve(image=tf.constant(images))
    logits = model.predict(images / np.float32(255), verbose=0)
    np.testing.assert_allclose(answers["logits"], logits, atol=1e-5)
    best = np.array(LABELS)[np.argsort(-logits, axis=1)[:, :2]]
    words = np.vectorize(bytes.decode)(answers["article"].numpy())
    np.testing.assert_array_equal(words, best)
    pooled = loaded.signatures["features"](image=tf.constant(images))
    np.testing.assert_allclose(
        pooled["output"],
        features.predict(images / np.float32(255), verbose=0),
        atol=1e-5,
    )
    assert record.settings["labels"] == LABELS
    json.dumps(record.to_json())


def test_export_puts_labels_and_preprocessing_into_the_tflite_file(full):
    folder, model, _, images, _ = full
    path = folder / "full.tflite"
    assert read_labels(path) == LABELS
    answers = run_tflite(path, {"image": images})
    assert sorted(answers) == ["confidence", "logits"]
    logits = model.predict(images / np.float32(255), verbose=0)
    spread = np.ptp(logits)
    assert np.abs(answers["logits"] - logits).max() < 0.1 * spread


def test_export_warms_up_every_signature_and_verifies_them(full):
    folder = full[0]
    asked = [(s, len(r["image"])) for s, r in read_warmup(folder / "1")]
    assert asked == [
        ("serving_default", 1),
        ("serving_default", 8),
        ("features", 1),
        ("features", 8),
    ]
    assert [problem for _, problem in verify_directory(folder)] == [None] * 3


@pytest.mark.parametrize(
    "key, change, text",
    quick(
        1,
        [
            ("features:output", lambda a: a + 1, "output `.*output` differs"),
            ("article", lambda a: np.roll(a, 1, 1), "output `article` at"),
        ],
    ),
)
def test_verify_compares_labels_and_extra_signatures(
    full, tmp_path, key, change, text
):
    version = shutil.copytree(full[0] / "1", tmp_path / "1")
    with np.load(golden_path(version)) as file:
        arrays = {k.partition("/")[2]: v for k, v in file.items() if "/" in k}
    request = {"image": arrays.pop("image")}
    arrays[key] = change(arrays[key])
    write_golden(version, request, arrays, 1e-4)
    write_manifest(version)
    ((_, problem),) = verify_directory(tmp_path)
    assert re.search(text, problem or "")


def test_every_signature_refuses_wrong_shapes_and_lives(full):
    process = subprocess.run(
        [sys.executable, "-c", ASK, C_API, str(full[0] / "1")],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found.pop("features 4 (8,)") == ["output"]
    assert "article" in found.pop("serving_default 4 (8,)")
    assert len(found) == 8
    for answer in found.values():
        assert "is not compatible with expected shape" in answer


def test_preprocess_takes_strings(tmp_path):
    text = layers.TextVectorization(max_tokens=9, output_sequence_length=3)
    text.adapt(["good film", "bad film"])
    ids = keras.Input((3,), dtype="int64")
    x = layers.Flatten()(layers.Embedding(9, 2)(ids))
    model = keras.Model(ids, layers.Dense(1)(x))
    words = np.array(["good film", "bad", "film film film b\u00f6se"])
    export(
        model,
        tmp_path,
        "text",
        formats="saved_model",
        inputs=words,
        preprocess=text,
        names={"input": "review"},
        labels=["bad", "good"],
        verbose=False,
    )
    loaded = tf.saved_model.load(str(tmp_path / "text" / "1"))
    answers = loaded.signatures["serving_default"](review=tf.constant(words))
    logits = model.predict(text(words), verbose=0)
    np.testing.assert_allclose(answers["logits"], logits, atol=1e-6)
    best = [[b"good"] if z > 0 else [b"bad"] for z in logits]
    assert answers["classes"].numpy().tolist() == best


def test_preprocess_is_not_in_training_mode(tmp_path):
    model, _ = classifier()
    flip = keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),
            layers.RandomFlip(),
        ]
    )
    endpoint = make_endpoint(model, preprocess=flip)
    (spec,) = endpoint.flat
    assert (spec.name, spec.dtype) == ("image", tf.uint8)
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), "uint8")
    logits = endpoint.expected({"image": images})["logits"]
    plain = model.predict(images / np.float32(255), verbose=0)
    np.testing.assert_allclose(logits, plain, atol=1e-6)


def other_inputs():
    x = keras.Input((5,))
    return keras.Model(x, layers.Dense(1)(x))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"names": {"input": "my image"}}, "`names` must map names to words"),
        ({"names": {"picture": "image"}}, "no input and no output"),
        ({"names": {"logits": "probabilities"}}, "two outputs one name"),
        ({"labels": ["a", "b"]}, "has 3 classes"),
        ({"top_k": 4}, "has 3 classes"),
        ({"head": "regression", "top_k": 1}, "need a classifier"),
        (
            {"preprocess": layers.Rescaling(2.0)},
            "does not say what its inputs are",
        ),
        ({"signatures": {"serve": None}}, "must be named by a word"),
        ({"signatures": {"a:b": None}}, "must be named by a word"),
        ({"signatures": {"x": other_inputs}}, "must take what the model"),
    ],
)
def test_export_refuses_options_before_anything_is_written(
    tmp_path, options, text
):
    options = {
        key: {k: v() if callable(v) else v for k, v in value.items()}
        if key == "signatures"
        else value
        for key, value in options.items()
    }
    with pytest.raises(ValueError, match=text) as error:
        export(classifier()[0], tmp_path, "m", verbose=False, **options)
    assert not isinstance(error.value, VerificationError)
    assert not (tmp_path / "m").exists()


def test_names_of_two_inputs_must_differ():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], layers.Dense(2)(layers.Add()([a, b])))
    with pytest.raises(ValueError, match="two inputs one name"):
        make_endpoint(model, names={"a": "b"})
    swapped = make_endpoint(model, names={"a": "b", "b": "a"})
    assert [spec.name for spec in swapped.flat] == ["b", "a"]


def test_write_saved_model_refuses_unknown_names_itself(tmp_path):
    with pytest.raises(ValueError, match="no input and no output"):
        write_saved_model(
            classifier()[0], tmp_path / "m", names={"picture": "image"}
        )
