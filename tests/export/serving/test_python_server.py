# SPDX-License-Identifier: Apache-2.0
"""The server of Python's own, asked by the client that is shipped."""

from __future__ import annotations

import threading

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
        ("/v1/models/cnn:classify", b"{}", 404),
        ("/v1/models/cnn/metadata", b"{}", 400),
        ("/v1/models/cnn:predict", b'{"instances": [[1.0', 400),
    ]:
        status, found = rest.answer(served, path, body)
        assert status == expected and found["error"], path


def test_a_folder_without_versions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no version to serve"):
        NewestVersion(tmp_path)
