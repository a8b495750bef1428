# SPDX-License-Identifier: Apache-2.0
"""Exports behind a server: a double of TensorFlow Serving's rules, and
TensorFlow Serving itself where it is on the PATH.

What passes on the double alone is verified against its rules, not against
the server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.serving.test_serving_files import load
from export.serving_double import ServingDouble
from export.serving_double import serve_grpc
from export.serving_double import serve_rest
from keras_kd.export import export
from keras_kd.export import publish
from keras_kd.export import server_command
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.staging import staging
from keras_kd.export.serving.rest import ServingError
from keras_kd.export.serving.warmup import warmup_path
from keras_kd.export.verification.malformed import hostile_requests

layers = keras.layers


@dataclasses.dataclass
class Running:
    """A server that polls a model's folder, whichever it is."""

    name: str
    url: str
    target: str

    def states(self):
        """Returns `{version: (state, error message)}`, empty until known."""
        try:
            found = call(f"{self.url}/v1/models/{self.name}")
        except OSError:
            return {}
        return {
            int(v["version"]): (v["state"], v["status"]["error_message"])
            for v in found.get("model_version_status", [])
        }

    def wait_for(self, version, state, seconds=60):
        """Waits for a version's state; returns the error message with it."""
        end = time.time() + seconds
        while time.time() < end:
            states = self.states()
            if states.get(version, ("",))[0] == state:
                return states[version][1]
            time.sleep(0.02)
        raise AssertionError(f"{version} is not {state}: {self.states()}")

    def predict(self, body, path=""):
        return call(f"{self.url}/v1/models/{self.name}{path}:predict", body)


def call(url, body=None):
    """Returns the JSON that a GET, or a POST of `body`, is answered with."""
    data = body if body is None or isinstance(body, bytes) else None
    if data is None and body is not None:
        data = json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return {**json.load(error), "code": error.code}


@contextlib.contextmanager
def double(folder):
    with ServingDouble(folder) as served:
        rest, url = serve_rest(served)
        grpc, target = serve_grpc(served)
        try:
            yield Running(folder.name, url, target)
        finally:
            rest.shutdown()
            rest.server_close()
            grpc.stop(None)


@contextlib.contextmanager
def real(folder):
    if not shutil.which("tensorflow_model_server"):
        pytest.skip("not run on TensorFlow Serving: it is not on the PATH")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    command = [*server_command(folder, *ports), "--max_num_load_retries=0"]
    process = subprocess.Popen(command)
    try:
        target = f"127.0.0.1:{ports[0]}"
        yield Running(folder.name, f"http://127.0.0.1:{ports[1]}", target)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=[double, real], ids=["double", "real"])
def start(request):
    """Starts servers on folders, until the test ends."""
    with contextlib.ExitStack() as stack:

        def enter(folder):
            return stack.enter_context(request.param(folder))

        yield enter


@pytest.fixture(scope="module")
def articles(tmp_path_factory):
    """A classifier of uint8 images and words, with labels and features."""
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 6, 1), dtype="uint8", name="image")
    words = keras.Input((1,), dtype="string", name="words")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    ids = layers.StringLookup(vocabulary=["red", "blue"])(words)
    y = layers.Flatten()(layers.Embedding(3, 4)(ids))
    both = layers.Concatenate(name="both")([x, y])
    model = keras.Model([image, words], layers.Dense(3)(both))
    request = {
        "image": np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1)),
        "words": np.array([["red"], ["blue"], ["gr\u00fcn"], ["red"]]),
    }
    request["image"] = request["image"].astype("uint8")
    folder = tmp_path_factory.mktemp("articles") / "articles"
    export(
        model,
        folder.parent,
        "articles",
        "saved_model",
        inputs=[request["image"], request["words"]],
        labels=["boot", "b\u00e4g", "coat"],
        top_k=2,
        signatures={"features": keras.Model(model.input, both)},
        verbose=False,
    )
    tensors = [keras.ops.convert_to_tensor(a) for a in request.values()]
    return folder, request, model(tensors).numpy()


def break_version(folder, fault):
    """Stages a copy of version 1 with a fault, and publishes it."""
    with staging(folder) as staged:
        shutil.copytree(folder / "1", staged, dirs_exist_ok=True)
        if fault == "garbage":
            warmup_path(staged).write_bytes(b"garbage" * 20)
        elif fault == "no model":
            (staged / "saved_model.pb").write_bytes(b"cut")
        else:
            (staged / "variables" / "variables.index").unlink()
        if fault == "no index, no records":
            shutil.rmtree(staged / "assets.extra")
        write_manifest(staged)
        return int(publish(staged, folder).name)


def test_client_gets_the_models_answers_by_rest_and_grpc(start, exported):
    server = start(exported.folder / "cnn")
    server.wait_for(1, "AVAILABLE")
    client = load(exported.folder / "cnn" / "serving" / "client.py")
    request = {"image": exported.images}
    for answers in (
        client.predict_rest(request, server.url),
        client.predict_rest(request, server.url, version=1),
        client.predict_grpc(request, server.target),
        client.predict_grpc(request, server.target, version=1),
    ):
        assert sorted(answers) == ["logits", "probabilities"]
        np.testing.assert_allclose(
            answers["logits"], exported.logits, atol=1e-5
        )
    golden = client.verified(exported.version / "golden.npz")
    np.testing.assert_array_equal(golden["image"], exported.images)
    zeros = client.predict_rest(client.example(3), server.url)
    assert zeros["logits"].shape == (3, 10)


def test_double_answers_as_tensorflows_own_loader_does(articles):
    """By nothing of ours: the real messages, and TensorFlow's Python."""
    from tensorflow_serving.apis import prediction_log_pb2 as messages

    folder, *_ = articles
    records = tf.data.TFRecordDataset(str(warmup_path(folder / "1")))
    logs = map(messages.PredictionLog.FromString, records.as_numpy_iterator())
    requests = [log.predict_log.request for log in logs]
    assert len(requests) == 4
    double = ServingDouble(folder, None)
    double.poll()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(
            session, ["serve"], str(folder / "1")
        )
        for request in requests:
            name = request.model_spec.signature_name
            signature = loaded.signature_def[name]
            arrays = {
                key: tf.make_ndarray(tensor)
                for key, tensor in request.inputs.items()
            }

            def ask(arrays, signature=signature):
                return session.run(
                    {key: info.name for key, info in signature.outputs.items()},
                    {signature.inputs[k].name: a for k, a in arrays.items()},
                )

            answers = ask(arrays)
            found = double.predict(arrays, name)
            assert set(found) == set(answers)
            for key, array in answers.items():
                if array.dtype == object:
                    array = array.astype("S")
                np.testing.assert_array_equal(found[key], array)
            shapes = {
                key: tuple(dim.size for dim in info.tensor_shape.dim)
                for key, info in signature.inputs.items()
            }
            refused = [
                hostile.request
                for hostile in hostile_requests(arrays, shapes)
                if hostile.kind == "shape"
            ]
            assert len(refused) > 5
            for wrong in refused:
                with pytest.raises(ValueError, match="Cannot feed value"):
                    ask(wrong)
                with pytest.raises(ServingError) as caught:
                    double.predict(wrong, name)
                assert caught.value.code == "INVALID_ARGUMENT"


def test_client_sends_bytes_and_reads_labels_and_features(start, articles):
    folder, request, logits = articles
    server = start(folder)
    server.wait_for(1, "AVAILABLE")
    client = load(folder / "serving" / "client.py")
    best = np.array(["boot", "b\u00e4g", "coat"])[np.argsort(-logits)[:, :2]]
    encoded = {**request, "words": np.char.encode(request["words"], "utf-8")}
    for answers in (
        client.predict_rest(request, server.url),
        client.predict_grpc(encoded, server.target),
    ):
        np.testing.assert_allclose(answers["logits"], logits, atol=1e-5)
        found = answers["classes"]
        if found.dtype.kind != "U":
            found = np.vectorize(bytes.decode)(found)
        np.testing.assert_array_equal(found, best)
    features = client.predict_rest(request, server.url, signature="features")
    assert features["output"].shape == (4, 40)


def test_client_tells_the_servers_reason(start, exported):
    server = start(exported.folder / "cnn")
    server.wait_for(1, "AVAILABLE")
    client = load(exported.folder / "cnn" / "serving" / "client.py")
    wrong = {"image": exported.images[:, :5]}
    with pytest.raises(RuntimeError, match="HTTP 400.*not compatible"):
        client.predict_rest(wrong, server.url)
    with pytest.raises(RuntimeError, match="HTTP 404"):
        client.predict_rest(client.example(), server.url, version=9)
    import grpc

    with pytest.raises(grpc.RpcError, match="not compatible"):
        client.predict_grpc(wrong, server.target)


def test_server_answers_both_formats_and_refuses_the_rest(start, exported):
    server = start(exported.folder / "cnn")
    server.wait_for(1, "AVAILABLE")
    images = exported.images.tolist()
    answers = [
        server.predict({"instances": images})["predictions"],
        server.predict({"instances": [{"image": i} for i in images]})[
            "predictions"
        ],
    ]
    for rows in answers:
        logits = [row["logits"] for row in rows]
        np.testing.assert_allclose(logits, exported.logits, atol=1e-5)
    for inputs in (images, {"image": images}):
        outputs = server.predict({"inputs": inputs})["outputs"]
        np.testing.assert_allclose(
            outputs["logits"], exported.logits, atol=1e-5
        )
    hostile = [
        b'{"instances": [1.0, 2.0]}',  # 25 bytes that abort a bare export
        {"instances": [i[0] for i in images]},
        {"instances": []},
        {"instances": images, "inputs": images},
        {},
        {"inputs": {"picture": images}},
        {"instances": images, "signature_name": "train"},
        {"instances": [["a"]]},
        {"instances": [[1.0], [1.0, 2.0]]},
        b'{"instances": [[1.0',
    ]
    for body in hostile:
        answer = server.predict(body)
        assert answer["code"] == 400 and answer["error"], body
    assert len(server.predict({"instances": images})["predictions"]) == 5


def test_server_tells_its_state_and_the_models_signature(start, articles):
    server = start(articles[0])
    server.wait_for(1, "AVAILABLE")
    assert server.states() == {1: ("AVAILABLE", "")}
    url = f"{server.url}/v1/models/articles"
    found = call(f"{url}/metadata")
    assert found["model_spec"]["version"] == "1"
    definition = found["metadata"]["signature_def"]["signature_def"]
    inputs = definition["serving_default"]["inputs"]
    assert {k: v["dtype"] for k, v in inputs.items()} == {
        "image": "DT_UINT8",
        "words": "DT_STRING",
    }
    sizes = [d["size"] for d in inputs["image"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "6", "6", "1"]
    assert "features" in definition
    assert call(f"{server.url}/v1/models/other")["code"] == 404


@pytest.mark.parametrize("fault", ["garbage", "no model", "no index"])
def test_faulty_version_is_refused_and_the_old_one_serves(start, copied, fault):
    folder = copied.folder / "cnn"
    server = start(folder)
    server.wait_for(1, "AVAILABLE")
    broken = break_version(folder, fault)
    assert server.wait_for(broken, "END")
    body = {"instances": copied.images.tolist()}
    assert len(server.predict(body)["predictions"]) == 5
    assert server.states()[1][0] == "AVAILABLE"
    # The next sound version takes over.
    version = int(publish(folder / "1", folder, keep=1).name)
    server.wait_for(version, "AVAILABLE")
    assert len(server.predict(body)["predictions"]) == 5


def test_without_records_a_faulty_version_takes_the_server_down(start, copied):
    folder = copied.folder / "cnn"
    server = start(folder)
    server.wait_for(1, "AVAILABLE")
    broken = break_version(folder, "no index, no records")
    server.wait_for(broken, "AVAILABLE")
    answer = server.predict({"instances": copied.images.tolist()})
    assert "error" in answer


def test_server_takes_new_versions_and_never_a_staged_one(start, copied):
    folder = copied.folder / "cnn"
    server = start(folder)
    server.wait_for(1, "AVAILABLE")
    with staging(folder) as staged:
        shutil.copytree(folder / "1", staged, dirs_exist_ok=True)
        time.sleep(1.2)  # longer than either polls
        assert set(server.states()) == {1}
        version = publish(staged, folder, keep=1)
    server.wait_for(int(version.name), "AVAILABLE")
    assert not (folder / "1").exists()
    body = {"instances": copied.images.tolist()}
    assert len(server.predict(body)["predictions"]) == 5
