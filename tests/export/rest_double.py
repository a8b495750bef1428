# SPDX-License-Identifier: Apache-2.0
"""REST of the double of TensorFlow Serving: its paths and JSON shapes.

Row format `{"instances": [...]}` is answered by `{"predictions": [...]}`,
column format `{"inputs": ...}` by `{"outputs": ...}`; a sole input or output
goes without its name; bytes are `{"b64": ...}`.
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import threading

import numpy as np

from export.serving_double import ServingError
from export.serving_double import dtype_of

PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?"
)
STATUS = {"NOT_FOUND": 404}


def serve_rest(double):
    """Starts REST on a free loopback port; returns `(server, url)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(lambda *path: _look(double, *path))

        def do_POST(self):
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            self._answer(lambda *path: _predict(double, body, *path))

        def _answer(self, make):
            match = PATH.fullmatch(self.path)
            try:
                if not match or match[1] != double.name:
                    raise ServingError(
                        "NOT_FOUND", f"Malformed or unknown: {self.path}"
                    )
                version = int(match[2]) if match[2] else None
                status, content = 200, make(version, match[3] or "")
            except ServingError as error:
                status = STATUS.get(error.code, 400)
                content = {"error": str(error)}
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def _look(double, version, what):
    if what == "/metadata":
        return _metadata(double, version)
    if what:
        raise ServingError("INVALID_ARGUMENT", "Use POST to predict")
    states = dict(double.states)
    if version is not None:
        states = {k: v for k, v in states.items() if k == version}
    if not states:
        raise ServingError(
            "NOT_FOUND", f"Could not find any versions of model {double.name}"
        )
    return {
        "model_version_status": [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": code, "error_message": message},
            }
            for number, (state, code, message) in sorted(
                states.items(), reverse=True
            )
        ]
    }


def _metadata(double, version):
    from google.protobuf import json_format

    number, session = double.session(version)
    spec = {"name": double.name, "signature_name": "", "version": str(number)}
    found = {
        name: json_format.MessageToDict(
            signature, preserving_proto_field_name=True
        )
        for name, signature in session.signatures.items()
    }
    metadata = {"signature_def": {"signature_def": found}}
    return {"model_spec": spec, "metadata": metadata}


def _predict(double, body, version, what):
    if what != ":predict":
        raise ServingError("INVALID_ARGUMENT", f"Unsupported method {what}")
    try:
        request = json.loads(body)
    except ValueError as error:
        raise ServingError(
            "INVALID_ARGUMENT", f"JSON Parse error: {error}"
        ) from error
    if not isinstance(request, dict) or ("instances" in request) == (
        "inputs" in request
    ):
        raise ServingError(
            "INVALID_ARGUMENT",
            "Request must have exactly one of 'instances' and 'inputs'",
        )
    signature = request.get("signature_name", "") or "serving_default"
    _, session = double.session(version)
    if signature not in session.signatures:
        raise ServingError(
            "INVALID_ARGUMENT",
            f'Serving signature name: "{signature}" not found in signature def',
        )
    infos = session.signatures[signature].inputs
    by_row = "instances" in request
    columns = (_of_rows if by_row else _of_columns)(request, infos)
    arrays = {k: _array(k, columns[k], infos[k]) for k in columns}
    answers = double.predict(arrays, signature, version)
    outputs = {name: _to_json(name, a) for name, a in answers.items()}
    if not by_row:
        sole = len(outputs) == 1
        return {"outputs": next(iter(outputs.values())) if sole else outputs}
    rows = [
        dict(zip(outputs, row, strict=True))
        for row in zip(*outputs.values(), strict=True)
    ]
    if len(outputs) == 1:
        rows = [next(iter(row.values())) for row in rows]
    return {"predictions": rows}


def _of_rows(request, infos):
    rows = request["instances"]
    if not isinstance(rows, list) or not rows:
        raise ServingError(
            "INVALID_ARGUMENT", "'instances' must be a list that is not empty"
        )
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(named) and len(infos) == 1:
        return {next(iter(infos)): rows}
    if not all(named) or any(set(row) != set(infos) for row in rows):
        raise ServingError(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects with "
            f"the keys {sorted(infos)}",
        )
    return {name: [row[name] for row in rows] for name in infos}


def _of_columns(request, infos):
    columns = request["inputs"]
    if not isinstance(columns, dict) or set(columns) == {"b64"}:
        if len(infos) != 1:
            raise ServingError(
                "INVALID_ARGUMENT", f"inputs must have keys {sorted(infos)}"
            )
        return {next(iter(infos)): columns}
    if set(columns) != set(infos):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"inputs has keys {sorted(columns)}, expected {sorted(infos)}",
        )
    return columns


def _array(name, values, info):
    kind = dtype_of(info.dtype)
    try:
        if kind is None:
            return np.array(_bytes(values), "S")
        array = np.array(values)
        if array.dtype.kind not in "iufb":
            raise ValueError(f"no numbers: {str(values)[:50]}")
        if kind.kind in "iu" and array.dtype.kind == "f":
            raise ValueError("not whole numbers")
        return array.astype(kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise ServingError(
            "INVALID_ARGUMENT",
            f"JSON Value of `{name}` does not fit its type: {error}",
        ) from error


def _bytes(value):
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, str):
        return value.encode()
    raise ValueError(f"no text: {value!r}")


def _to_json(name, array):
    if array.dtype.kind != "S":
        return array.tolist()

    def text(value):
        if isinstance(value, list):
            return [text(item) for item in value]
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode("utf-8", "replace")

    return text(array.tolist())
