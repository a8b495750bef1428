# SPDX-License-Identifier: Apache-2.0
"""A server of Python's own, to try a client with; not for production.

It answers REST as TensorFlow Serving does, on this machine only, one request
at a time, from the version that was the newest when it started. It has no
gRPC, no batching, no limits and no metrics.
"""

from __future__ import annotations

import http.server
import json
import os
import pathlib

from keras_kd.export.publishing.versions import versions_in
from keras_kd.export.serving import rest
from keras_kd.export.verification.c_api import SavedModelSession


class NewestVersion:
    """The newest version in a model's folder, loaded once.

    Args:
        base_dir: The model's folder, the one that holds its versions.

    Raises:
        FileNotFoundError: If there is no version.
        RuntimeError: If it cannot be loaded.
    """

    def __init__(self, base_dir: str | os.PathLike):
        base_dir = pathlib.Path(base_dir).absolute()
        found = versions_in(base_dir)
        if not found:
            raise FileNotFoundError(
                f"{base_dir} holds no version to serve. Expected folders such "
                f"as {base_dir / '1'} with a saved_model.pb, as export writes."
            )
        self.name = base_dir.name
        self.version = int(found[-1].name)
        self.states = {self.version: ("AVAILABLE", "OK", "")}
        self._session = SavedModelSession(found[-1])

    def session(self, version: int | None = None):
        if version not in (None, self.version):
            which = f"Specific({self.name}, {version})"
            raise rest.ServingError(
                "NOT_FOUND", f"Servable not found for request: {which}"
            )
        return self.version, self._session


def python_server(
    served: rest.Served, port: int = 8501
) -> http.server.HTTPServer:
    """Returns a server on 127.0.0.1 that serves once it is told to.

    Args:
        served: A `NewestVersion`.
        port: For REST; 0 for any free one, `server_port` tells which.

    Example:

    ```py
    with python_server(NewestVersion("saved_models/student")) as server:
        server.serve_forever()
    ```
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # of a client that is silent: the others wait for it

        def do_GET(self):
            self._send(*rest.answer(served, self.path))

        def do_POST(self):
            size = self.headers.get("Content-Length", "")
            if not size.isdecimal():
                self._send(411, {"error": "Content-Length is missing"})
                return
            body = self.rfile.read(int(size))
            self._send(*rest.answer(served, self.path, body))

        def _send(self, status, content):
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    return http.server.HTTPServer(("127.0.0.1", port), Handler)
