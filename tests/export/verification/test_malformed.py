# SPDX-License-Identifier: Apache-2.0
"""Hostile requests: refused or answered, but no process dies of them."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from export.serving.test_serving import double
from export.serving.test_serving import real
from keras_kd.export import VerificationError
from keras_kd.export import export
from keras_kd.export import run_tflite
from keras_kd.export.manifest import write_manifest
from keras_kd.export.verification import malformed
from keras_kd.export.verification.malformed import hostile_requests
from keras_kd.export.verification.verify import ask

layers = keras.layers
SHAPES = {"ids": (-1, 4), "words": (-1, 1), "image": (-1, 6, 6, 1)}


def good_request(rows=3):
    random = np.random.default_rng(0)
    return {
        "ids": random.integers(0, 9, (rows, 4)).astype("int32"),
        "words": np.array([[b"red"], [b"blue"], [b"red"]][:rows]),
        "image": random.random((rows, 6, 6, 1), "float32"),
    }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A model of numbers, text and images, served."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((4,), dtype="int32", name="ids")
    words = keras.Input((1,), dtype="string", name="words")
    image = keras.Input((6, 6, 1), name="image")
    x = layers.LSTM(3)(layers.Embedding(9, 4, mask_zero=True)(ids))
    y = layers.StringLookup(vocabulary=["red", "blue"])(words)
    y = layers.Flatten()(layers.Embedding(3, 4)(y))
    z = layers.Conv2D(4, 3)(image)
    z = layers.GlobalAveragePooling2D()(z)
    both = layers.Concatenate()([x, y, z])
    model = keras.Model([ids, words, image], layers.Dense(3)(both))
    folder = tmp_path_factory.mktemp("hostile")
    inputs = list(good_request().values())
    formats = ["saved_model"]
    export(model, folder, "mixed", formats, inputs=inputs, verbose=False)
    return folder / "mixed"


def test_hostile_requests_hold_each_of_the_known_ones():
    found = list(hostile_requests(good_request(), SHAPES))
    shapes = {
        (h.request["image"].shape, h.kind)
        for h in found
        if h.request["image"].dtype == "float32"
    }
    # Flat (the 25 bytes), scalar, rank 3 and 5, 12 x 6, two channels, empty.
    for shape in [(2,), (), (1, 6, 6), (1, 6, 6, 1, 1), (1, 12, 6, 1)]:
        assert (shape, "shape") in shapes
    assert ((1, 6, 6, 2), "shape") in shapes
    assert ((0, 6, 6, 1), "rows") in shapes
    values = [h.request["image"].flat[0] for h in found if h.kind == "value"]
    assert np.isnan(values).any() and np.isinf(values).any()
    texts = [h.request["words"].flat[0] for h in found if h.kind == "value"]
    assert max(map(len, texts)) == malformed.HUGE_TEXT
    ids = [h.request["ids"].flat[0] for h in found if h.kind == "value"]
    assert np.iinfo("int32").max in ids and np.iinfo("int32").min in ids
    assert {h.kind for h in found} == {
        "shape",
        "dtype",
        "text",
        "value",
        "rows",
    }
    # None is what the signature asks for, but for its values.
    good = good_request()
    for hostile in found:
        same = all(
            SHAPES[name][1:] == array.shape[1:]
            and array.dtype.kind in (good[name].dtype.kind, "O")
            and len(array)
            for name, array in hostile.request.items()
        )
        assert same == (hostile.kind == "value"), hostile.what


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from c_api import SavedModelSession
from malformed import hostile_requests
session = SavedModelSession(sys.argv[2])
with np.load(sys.argv[3]) as file:
    good = dict(file)
before = session.run(good)["logits"]
found = []
for hostile in hostile_requests(good, json.loads(sys.argv[4])):
    print(hostile.what, file=sys.stderr, flush=True)
    try:
        session.run(hostile.request)
        found.append([hostile.kind, ""])
    except RuntimeError as error:
        found.append([hostile.kind, str(error)])
same = bool(np.array_equal(before, session.run(good)["logits"]))
print(json.dumps([found, same]))
"""


def test_saved_model_outlives_hostile_requests_in_c(mixed, tmp_path):
    np.savez(tmp_path / "good.npz", **good_request())
    folder = pathlib.Path(malformed.__file__).parent
    arguments = [folder, mixed / "1", tmp_path / "good.npz", json.dumps(SHAPES)]
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    found, same = json.loads(process.stdout)
    assert same and len(found) > 30
    for kind, error in found:
        if kind in ("shape", "dtype", "text"):
            assert error, kind


def test_run_tflite_refuses_or_answers_hostile_requests(exported):
    good = {"image": exported.images}
    shapes = {"image": (-1, 12, 12, 1)}
    for hostile in hostile_requests(good, shapes):
        if hostile.kind in ("value", "dtype"):
            assert run_tflite(exported.tflite, hostile.request)
            continue
        with pytest.raises(ValueError, match="has shape|must be|equally many"):
            run_tflite(exported.tflite, hostile.request)
    complex_numbers = exported.images.astype("complex64")
    with pytest.raises(ValueError, match="Received: complex64"):
        run_tflite(exported.tflite, complex_numbers)


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    """A .tflite file that takes int8."""
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(9)])
    folder, x = tmp_path_factory.mktemp("int8"), np.eye(4, dtype="float32")
    options = {"quantize": "full_int8", "inputs": x, "verbose": False}
    export(model, folder, "m", ["tflite"], **options)
    return folder / "m" / "m.tflite"


@pytest.mark.slow
def test_run_tflite_of_integers_refuses_nan(integers):
    x = np.full((1, 4), np.nan, "float32")
    with pytest.raises(ValueError, match="has no NaN"):
        run_tflite(integers, x)
    # Beyond its range it takes the nearest.
    huge = run_tflite(integers, np.full((1, 4), np.inf, "float32"))
    most = run_tflite(integers, np.full((1, 4), 9e9, "float32"))
    np.testing.assert_array_equal(huge["logits"], most["logits"])


def test_run_tflite_of_integers_scales_whole_numbers(integers):
    whole = np.eye(4, dtype="int64")
    found = run_tflite(integers, whole)["logits"]
    expected = run_tflite(integers, whole.astype("float32"))["logits"]
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found, axis=0)) == 4


@pytest.mark.parametrize("start", [double, real])
def test_server_outlives_hostile_requests(mixed, start):
    """By its protos: arrays as they are; by JSON, what that can say."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc as service

    def ask_grpc(arrays):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "mixed"
        for name, array in arrays.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        answer = stub.Predict(request, timeout=30).outputs["logits"]
        return tf.make_ndarray(answer)

    with start(mixed) as server:
        server.wait_for(1, "AVAILABLE")
        with grpc.insecure_channel(server.target) as channel:
            stub = service.PredictionServiceStub(channel)
            good = ask_grpc(good_request())
            for hostile in hostile_requests(good_request(), SHAPES):
                refused = ""
                try:
                    ask_grpc(hostile.request)
                except grpc.RpcError as error:
                    refused = error.code().name
                if hostile.kind in ("shape", "dtype", "text"):
                    assert refused == "INVALID_ARGUMENT", hostile.what
            for body in (b'{"instances": [1.0, 2.0]}', b'{"inputs": NaN}'):
                assert server.predict(body)["error"]
            np.testing.assert_array_equal(ask_grpc(good_request()), good)


def test_verify_replays_hostile_requests(tmp_path):
    """An export that answers one of them does not pass; `mixed` did."""
    ids = keras.Input((4,), name="x")
    model = keras.Model(ids, keras.ops.sum(ids, axis=-1, keepdims=True))
    model.export(tmp_path / "1", verbose=False)
    write_manifest(tmp_path / "1")
    with pytest.raises(VerificationError, match="shape .*instead of refusing"):
        ask(tmp_path / "1", np.ones((2, 4), "float32"))
