# SPDX-License-Identifier: Apache-2.0
"""The server of Python's own, asked by the client that is shipped."""

from __future__ import annotations

import json
import threading
import types

import numpy as np
import pytest

from export.serving.test_serving_files import load
from keras_kd.export.serving import rest
from keras_kd.export.serving.python_server import NewestVersion
from keras_kd.export.serving.python_server import python_server


@pytest.fixture(scope="module")
def served(exported):
    return NewestVersion(exported.folder / "cnn")


def test_client_gets_the_models_answers_over_loopback(served, exported):
    client = load(exported.folder / "cnn" / "serving" / "client.py")
    request = {"image": exported.images}
    with python_server(served, port=0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            answers = client.predict_rest(request, url, version=1)
            np.testing.assert_allclose(
                answers["logits"], exported.logits, atol=1e-5
            )
            with pytest.raises(RuntimeError, match="HTTP 404.*not found"):
                client.predict_rest(request, url, version=2)
            with pytest.raises(RuntimeError, match="HTTP 400.*compatible"):
                client.predict_rest({"image": exported.images[:, :5]}, url)
        finally:
            server.shutdown()


def test_it_tells_its_state_and_refuses_other_paths(served):
    status, found = rest.answer(served, "/v1/models/cnn")
    assert status == 200
    (state,) = found["model_version_status"]
    assert (state["version"], state["state"]) == ("1", "AVAILABLE")
    status, found = rest.answer(served, "/v1/models/cnn/metadata")
    assert status == 200 and found["model_spec"]["version"] == "1"
    for path, body, expected in [
        ("/v1/models/other", None, 404),
        ("/v1/models/cnn/versions/2", None, 404),
        ("/v1/models/cnn:predict", None, 400),
        ("/v1/models/cnn:classify", b"{}", 400),
        ("/v1/models/cnn/labels/stable", None, 400),
        ("/v1/models/cnn/metadata", b"{}", 400),
        ("/v1/models/cnn:predict", b'{"instances": [[1.0', 400),
    ]:
        status, found = rest.answer(served, path, body)
        assert status == expected and found["error"], path


def test_its_json_is_that_of_the_servers_own_messages(served):
    """By TensorFlow Serving's protos, printed as its REST prints them."""
    from google.protobuf import json_format
    from tensorflow_serving.apis import get_model_metadata_pb2 as metadata
    from tensorflow_serving.apis import get_model_status_pb2 as status

    def printed(found, message):
        return json_format.MessageToDict(
            json_format.ParseDict(found, message),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )

    _, found = rest.answer(served, "/v1/models/cnn")
    assert printed(found, status.GetModelStatusResponse()) == found
    _, found = rest.answer(served, "/v1/models/cnn/metadata")
    assert set(found) == {"model_spec", "metadata"}
    signatures = found["metadata"]["signature_def"]
    again = printed(signatures, metadata.SignatureDefMap())
    assert again == signatures
    inputs = again["signature_def"]["serving_default"]["inputs"]
    assert inputs["image"]["tensor_shape"]["dim"][0] == {
        "size": "-1",
        "name": "",
    }
    spec = metadata.GetModelMetadataResponse().model_spec
    json_format.ParseDict(found["model_spec"], spec)
    assert (spec.name, spec.version.value) == ("cnn", 1)


class Echo:
    """A session that answers with what it is sent, as one that is served."""

    name, states, kinds = "echo", {1: ("AVAILABLE", "OK", "")}, {}

    def __init__(self, **kinds):
        infos = {
            name: types.SimpleNamespace(dtype=code)
            for name, code in kinds.items()
        }
        signature = types.SimpleNamespace(inputs=infos)
        self.signatures = {"serving_default": signature}

    def session(self, version=None):
        return 1, self

    def run(self, arrays, signature):
        return arrays


UINT8, INT32, BOOL, FLOAT, STRING = 4, 3, 10, 1, 7


@pytest.mark.parametrize(
    "dtype, value, answer",
    [
        (INT32, 7, 7),
        (INT32, 2**31, None),
        (INT32, 1.0, None),
        (INT32, True, None),
        (UINT8, 300, 44),  # the server casts it, too
        (BOOL, True, True),
        (BOOL, 1, None),
        (FLOAT, 1, 1.0),
        (FLOAT, True, None),
        (FLOAT, "1", None),
        (STRING, "ab", "ab"),
        (STRING, {"b64": "YQAA"}, "a\0\0"),
        (STRING, {"b64": "?"}, None),
        (STRING, 5, None),
    ],
)
def test_json_values_become_what_the_server_makes_of_them(dtype, value, answer):
    served = Echo(x=dtype)
    for body in (
        {"instances": [value]},
        {"instances": [{"x": value}]},
        {"inputs": [value]},
        {"inputs": {"x": [value]}},
    ):
        text = json.dumps(body).encode()
        status, found = rest.answer(served, "/v1/models/echo:predict", text)
        if answer is None:
            assert status == 400 and "does not fit" in found["error"]
        else:
            assert status == 200 and list(found.values()) == [[answer]]


def test_rows_and_columns_of_several_inputs_are_told_by_name():
    served = Echo(a=INT32, b_bytes=STRING)

    def post(body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return rest.answer(served, "/v1/models/echo:predict", body)

    rows = [{"a": 1, "b_bytes": "x"}, {"b_bytes": "y", "a": 2}]
    x, y = {"b64": "eA=="}, {"b64": "eQ=="}
    expected = [{"a": 1, "b_bytes": x}, {"a": 2, "b_bytes": y}]
    assert post({"instances": rows}) == (200, {"predictions": expected})
    columns = {"b_bytes": ["x", "y"], "a": [1, 2]}
    expected = {"a": [1, 2], "b_bytes": [x, y]}
    assert post({"inputs": columns}) == (200, {"outputs": expected})
    for body in (
        {"instances": [1, 2]},
        {"instances": [{"a": 1}]},
        {"inputs": [1]},
        {"inputs": {"a": [1], "b_bytes": [["x"], ["x", "y"]]}},
        {"inputs": columns, "signature_name": ["serve"]},
        b"[" * 100_000,
        b"\xff",
    ):
        status, found = post(body)
        assert status == 400 and found["error"]


def test_a_folder_without_versions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no version to serve"):
        NewestVersion(tmp_path)
