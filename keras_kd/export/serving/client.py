# SPDX-License-Identifier: Apache-2.0
"""Asks a TensorFlow Serving for predictions, by REST and by gRPC.

Copy this file into your own program; it needs nothing but NumPy, and for
gRPC the package tensorflow-serving-api. Or try it as it is:

    python client.py --rest http://localhost:8501
    python client.py --grpc localhost:8500
"""

from __future__ import annotations

import argparse
import base64
import json
import urllib.error
import urllib.request

import numpy as np

# The model: its name, dtype and shape of each input (None: any size), and
# the outputs of each signature.
MODEL = "model"
INPUTS = {"input": ("float32", (None, 4))}
OUTPUTS = {"serving_default": ["output"]}
# End of the model.


def predict_rest(
    inputs: dict[str, np.ndarray],
    url: str = "http://localhost:8501",
    version: int | None = None,
    signature: str = "serving_default",
    timeout: float = 10.0,
) -> dict[str, np.ndarray]:
    """Returns the model's answers by REST.

    Args:
        inputs: Arrays `(batch, ...)` by input name.
        url: Where the server's REST port is.
        version: The model's version; `None` for the newest.
        signature: Which of the model's signatures to ask.
        timeout: Seconds to wait.

    Returns:
        Arrays `(batch, ...)` by output name.

    Raises:
        RuntimeError: If the server refuses the request, with its reason.
    """
    columns = {name: _to_json(name, array) for name, array in inputs.items()}
    body = {"signature_name": signature, "inputs": columns}
    which = "" if version is None else f"/versions/{version}"
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/models/{MODEL}{which}:predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            outputs = json.load(response)["outputs"]
    except urllib.error.HTTPError as error:
        text = error.read().decode("utf-8", "replace")
        raise RuntimeError(f"HTTP {error.code}: {text}") from error
    if not isinstance(outputs, dict):
        # A sole output comes without its name.
        outputs = {OUTPUTS[signature][0]: outputs}
    return {name: _from_json(values) for name, values in outputs.items()}


def predict_grpc(
    inputs: dict[str, np.ndarray],
    target: str = "localhost:8500",
    version: int | None = None,
    signature: str = "serving_default",
    timeout: float = 10.0,
) -> dict[str, np.ndarray]:
    """Returns the model's answers by gRPC: faster for big arrays.

    The arguments are those of `predict_rest`; `target` is the server's gRPC
    port. Raises grpc.RpcError with the server's reason. In a program that
    asks often, keep the channel open.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, array in inputs.items():
        tensor = tf.make_tensor_proto(_typed(name, array))
        request.inputs[name].CopyFrom(tensor)
    # The default limit, 4 MB, is a batch of seven 224 x 224 images.
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    with grpc.insecure_channel(target, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout)
    return {k: tf.make_ndarray(t) for k, t in response.outputs.items()}


def example(rows: int = 1) -> dict[str, np.ndarray]:
    """Returns a request of zeros, to see whether the server answers."""
    request = {}
    for name, (dtype, shape) in INPUTS.items():
        shape = (rows, *(size or 32 for size in shape[1:]))
        request[name] = (
            np.full(shape, b"a")
            if dtype == "string"
            else np.zeros(shape, dtype)
        )
    return request


def verified(path: str) -> dict[str, np.ndarray]:
    """Returns the request that a version was verified with: golden.npz."""
    with np.load(path) as file:
        return {name: file[f"input/{name}"] for name in INPUTS}


def _typed(name, array):
    dtype, array = INPUTS[name][0], np.asarray(array)
    if dtype == "string":
        return array
    with np.errstate(invalid="ignore"):
        typed = array.astype(dtype)
    # Pixels between 0 and 1 would all become 0.
    if typed.dtype.kind in "biu" and not np.array_equal(typed, array):
        raise ValueError(
            f"`{name}` must be {dtype}, or whole numbers that {dtype} can "
            f"hold. Received: {array.dtype}, {array.ravel()[:3]}"
        )
    return typed


def _to_json(name, array):
    if INPUTS[name][0] != "string":
        return _typed(name, array).tolist()
    # Bytes need not be text: TensorFlow Serving takes them as base64.
    flat = [
        value if isinstance(value, bytes) else str(value).encode()
        for value in np.asarray(array).ravel().tolist()
    ]
    coded = np.empty(len(flat), object)
    coded[:] = [{"b64": base64.b64encode(value).decode()} for value in flat]
    return coded.reshape(np.shape(array)).tolist()


def _from_json(values):
    array = np.asarray(values)
    return array if array.dtype.kind != "f" else array.astype("float32")


def main() -> None:
    """Asks with zeros, or a request, and prints what comes back."""
    parser = argparse.ArgumentParser(description=f"Ask the model '{MODEL}'.")
    parser.add_argument("--rest", metavar="URL")
    parser.add_argument("--grpc", metavar="HOST:PORT")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--request", metavar="../1/golden.npz")
    options = parser.parse_args()
    request = example(options.rows)
    if options.request:
        request = verified(options.request)
    if options.grpc:
        answers = predict_grpc(request, options.grpc)
    else:
        url = options.rest or "http://localhost:8501"
        answers = predict_rest(request, url)
    for name, array in answers.items():
        print(f"{name} {array.shape}: {array.ravel()[:10]}")


if __name__ == "__main__":
    main()
