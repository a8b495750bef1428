# SPDX-License-Identifier: Apache-2.0
"""A double of TensorFlow Serving, for tests: its rules, not its program.

It polls a model's folder as the server does, loads the highest version
through TensorFlow's C API, replays its warm-up records (read with TensorFlow
Serving's own messages) and only then lets go of the version before. REST is
that of `keras-kd serve --runtime python`. Where it is simpler than the server:

- a version that failed is not tried again (the server tries five times);
- one model, the newest version only, no batching, labels or classify.
"""

from __future__ import annotations

import pathlib
import re
import threading
from concurrent import futures

import tensorflow as tf

from keras_kd.export.serving import rest
from keras_kd.export.serving.python_server import python_server
from keras_kd.export.verification.c_api import SavedModelSession

MAX_WARMUP_RECORDS = 1000


class ServingDouble:
    """Serves the newest version in a folder, which it polls.

    Args:
        base_dir: The model's folder; its name is the model's.
        poll_seconds: Between two looks at the folder; `None`: only `poll()`.
    """

    def __init__(self, base_dir, poll_seconds=0.05):
        self.base_dir = pathlib.Path(base_dir)
        self.name = self.base_dir.name
        # version: (state, error code, error message), as the server reports.
        self.states = {}
        self._sessions = {}
        self._failed = set()
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._poll_seconds = poll_seconds
        self._thread = threading.Thread(target=self._poll_on, daemon=True)

    def __enter__(self):
        if self._poll_seconds is not None:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        if self._poll_seconds is not None:
            self._thread.join()

    def _poll_on(self):
        while not self._stopped.wait(self._poll_seconds):
            self.poll()

    def poll(self):
        """Looks once, and serves the newest version if it can."""
        folders = {}
        for path in self.base_dir.iterdir():
            # What absl::SimpleAtoi takes for a 64-bit number.
            if re.fullmatch(r"\s*[+-]?[0-9]+\s*", path.name) and path.is_dir():
                if -(2**63) <= int(path.name) < 2**63:
                    folders[int(path.name)] = path
        if not folders:
            return
        newest = max(folders)
        with self._lock:
            if newest in self._sessions or newest in self._failed:
                return
            self.states[newest] = ("LOADING", "OK", "")
            try:
                session = SavedModelSession(folders[newest])
                self._warm_up(session, folders[newest])
            except (rest.ServingError, RuntimeError) as error:
                code = getattr(error, "code", "UNKNOWN")
                self.states[newest] = ("END", code, str(error))
                self._failed.add(newest)
                return
            # Only now: the old version serves until the new one can.
            for version in list(self._sessions):
                del self._sessions[version]
                self.states[version] = ("END", "OK", "")
            self._sessions[newest] = session
            self.states[newest] = ("AVAILABLE", "OK", "")

    def _warm_up(self, session, folder):
        from tensorflow_serving.apis import prediction_log_pb2

        path = folder / "assets.extra" / "tf_serving_warmup_requests"
        if not path.exists():
            return
        try:
            records = list(
                tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
            )
        except tf.errors.DataLossError as error:
            raise rest.ServingError(
                "DATA_LOSS",
                f"{error}. Please verify your warmup data is in TFRecord "
                "format.",
            ) from error
        if len(records) > MAX_WARMUP_RECORDS:
            raise rest.ServingError(
                "INVALID_ARGUMENT",
                f"Number of warmup records exceeds the maximum "
                f"({MAX_WARMUP_RECORDS})",
            )
        for record in records:
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise rest.ServingError("UNIMPLEMENTED", "Unsupported log_type")
            self._run(session, *of_proto(log.predict_log.request))

    def session(self, version=None):
        """Returns `(version, session)`; NOT_FOUND if it is not served."""
        with self._lock:
            wanted = max(self._sessions, default=0) if not version else version
            if wanted not in self._sessions:
                which = f"Specific({self.name}, {version})"
                which = which if version else f"Latest({self.name})"
                raise rest.ServingError(
                    "NOT_FOUND", f"Servable not found for request: {which}"
                )
            return wanted, self._sessions[wanted]

    def predict(self, arrays, signature="", version=None):
        """Answers arrays by input name as `RunPredict` does."""
        _, session = self.session(version)
        return self._run(session, arrays, signature)

    def _run(self, session, arrays, signature=""):
        with self._lock:
            return rest.run(session, arrays, signature or "serving_default")


def of_proto(request):
    """Returns a PredictRequest as arrays and the name of its signature."""
    arrays = {k: tf.make_ndarray(t) for k, t in request.inputs.items()}
    return arrays, request.model_spec.signature_name


def serve_rest(double):
    """Starts REST on a free loopback port; returns `(server, url)`."""
    server = python_server(double, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def serve_grpc(double):
    """Starts gRPC on a free loopback port; returns `(server, target)`."""
    import grpc
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_service_pb2_grpc as service

    class Servicer(service.PredictionServiceServicer):
        def Predict(self, request, context):
            try:
                spec = request.model_spec
                version, _ = double.session(spec.version.value or None)
                outputs = double.predict(*of_proto(request), version)
            except rest.ServingError as error:
                context.abort(grpc.StatusCode[error.code], str(error))
            response = predict_pb2.PredictResponse()
            response.model_spec.name = double.name
            response.model_spec.version.value = version
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
            return response

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service.add_PredictionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"
