# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Serving's REST: its paths and JSON, of any served model.

Row format `{"instances": [...]}` is answered by `{"predictions": [...]}`,
column format `{"inputs": ...}` by `{"outputs": ...}`; a sole input or output
goes without its name; bytes are `{"b64": ...}`.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from typing import Protocol

import numpy as np

from keras_kd.export.verification.c_api import DTYPES
from keras_kd.export.verification.c_api import STRING
from keras_kd.export.verification.c_api import SavedModelSession

PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+))?"
    "(:predict|:classify|:regress|/metadata)?",
    re.IGNORECASE,
)
STATUS = {"NOT_FOUND": 404}
# Of a JSON number that stands for a small integer.
INT32 = np.iinfo("int32")


class ServingError(Exception):
    """A refusal, with gRPC's name of its kind."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Served(Protocol):
    """A model that is served.

    Attributes:
        name: The model's name.
        states: `(state, error code, error message)` by version.
    """

    name: str
    states: dict[int, tuple[str, str, str]]

    def session(
        self, version: int | None = None
    ) -> tuple[int, SavedModelSession]:
        """Returns a version (the newest) and its session, or NOT_FOUND."""


def answer(
    served: Served, path: str, body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    """Returns HTTP status and JSON for a request; a body makes it a POST."""
    match = PATH.fullmatch(path)
    try:
        if not match:
            method = "GET" if body is None else "POST"
            raise invalid(f"Malformed request: {method} {path}")
        if match[1] != served.name:
            text = f"Servable not found for request: Latest({match[1]})"
            raise ServingError("NOT_FOUND", text)
        version = int(match[2]) if match[2] else None
        if body is None:
            return 200, _look(served, version, match[3])
        if match[3] != ":predict":
            raise invalid(f"{path} is not answered: only :predict is")
        return 200, _predict(served, version, body)
    except ServingError as error:
        return STATUS.get(error.code, 400), {"error": str(error)}


def run(
    session: SavedModelSession, arrays: dict[str, np.ndarray], signature: str
) -> dict[str, np.ndarray]:
    """Answers arrays by input name as the server's `RunPredict` does.

    Raises:
        ServingError: If names or dtypes are not the signature's, or the model
            refuses them. Shapes are the model's matter.
    """
    if signature not in session.signatures:
        text = f'Serving signature key "{signature}" not found.'
        raise ServingError("FAILED_PRECONDITION", text)
    inputs = session.signatures[signature].inputs
    extra = ",".join(sorted(set(arrays) - set(inputs)))
    missing = ",".join(sorted(set(inputs) - set(arrays)))
    if extra or missing:
        raise invalid(
            "input keys do not match the signature's. Sent extra: "
            f"{{{extra}}}. Missing but required: {{{missing}}}."
        )
    for name, array in arrays.items():
        kind = _dtype_of(inputs[name])
        same = array.dtype.kind in "SO" if kind is None else array.dtype == kind
        if not same:
            raise invalid(
                f"input `{name}` has type {array.dtype}, expected "
                f"{kind or 'string'}"
            )
    try:
        return session.run(arrays, signature)
    except RuntimeError as error:
        raise invalid(str(error)) from error


def invalid(message: str) -> ServingError:
    """Returns the refusal of a request that is wrong."""
    return ServingError("INVALID_ARGUMENT", message)


def _dtype_of(info):
    """Returns NumPy's type of an input, `None` for strings."""
    return None if info.dtype == STRING else np.dtype(DTYPES[info.dtype])


def _look(served, version, what):
    if what == "/metadata":
        return _metadata(served, version)
    if what:
        raise invalid("Use POST to predict")
    states = {
        number: state
        for number, state in served.states.items()
        if version in (None, number)
    }
    if not states:
        text = f"Could not find any versions of model {served.name}"
        raise ServingError("NOT_FOUND", text)
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


def _metadata(served, version):
    from google.protobuf import json_format

    number, session = served.session(version)
    found = {
        name: json_format.MessageToDict(
            signature,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for name, signature in session.signatures.items()
    }
    spec = {"name": served.name, "signature_name": "", "version": str(number)}
    metadata = {"signature_def": {"signature_def": found}}
    return {"model_spec": spec, "metadata": metadata}


def _predict(served, version, body):
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    by_row = isinstance(request, dict) and "instances" in request
    if not isinstance(request, dict) or by_row == ("inputs" in request):
        raise invalid("Request must have exactly one of 'instances', 'inputs'")
    signature = request.get("signature_name", "") or "serving_default"
    if not isinstance(signature, str):
        raise invalid("'signature_name' key must be a string value.")
    _, session = served.session(version)
    if signature not in session.signatures:
        raise invalid(
            f'Serving signature name: "{signature}" not found in signature def'
        )
    infos = session.signatures[signature].inputs
    columns = (_of_rows if by_row else _of_columns)(request, infos)
    arrays = {k: _array(k, columns[k], infos[k]) for k in columns}
    answers = run(session, arrays, signature)
    outputs = {name: _to_json(name, a) for name, a in answers.items()}
    sole = len(outputs) == 1
    if not by_row:
        return {"outputs": next(iter(outputs.values())) if sole else outputs}
    rows = zip(*outputs.values(), strict=True)
    if sole:
        return {"predictions": [row for (row,) in rows]}
    return {"predictions": [dict(zip(outputs, r, strict=True)) for r in rows]}


def _of_rows(request, infos):
    rows = request["instances"]
    if not isinstance(rows, list) or not rows:
        raise invalid("'instances' must be a list that is not empty")
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(named) and len(infos) == 1:
        return {next(iter(infos)): rows}
    if not all(named) or any(set(row) != set(infos) for row in rows):
        raise invalid(
            "instances is a plain list, but expecting list of objects with "
            f"the keys {sorted(infos)}"
        )
    return {name: [row[name] for row in rows] for name in infos}


def _of_columns(request, infos):
    columns = request["inputs"]
    if not isinstance(columns, dict) or set(columns) == {"b64"}:
        if len(infos) != 1:
            raise invalid(f"inputs must have keys {sorted(infos)}")
        return {next(iter(infos)): columns}
    if set(columns) != set(infos):
        raise invalid(
            f"inputs has keys {sorted(columns)}, expected {sorted(infos)}"
        )
    return columns


def _array(name, values, info):
    kind = _dtype_of(info)
    try:
        if kind is None:
            # Objects: NumPy's own texts drop the zeros that a file ends with.
            array = np.array(_bytes(values), object)
            if not all(isinstance(text, bytes) for text in array.flat):
                raise ValueError("lists of unequal lengths")
            return array
        array = np.array(values)
        allowed = {"b": "b", "i": "iu", "u": "iu"}.get(kind.kind, "iuf")
        if array.dtype.kind not in allowed:
            raise ValueError(f"not of {kind}: {str(values)[:50]}")
        if kind.kind in "iu":
            # A server takes small integers as int32, whatever they become.
            limits = INT32 if kind.itemsize < 4 else np.iinfo(kind)
            if array.min() < limits.min or array.max() > limits.max:
                raise ValueError(f"beyond {kind}")
        return array.astype(kind)
    except (ValueError, TypeError, OverflowError) as error:
        text = f"JSON Value of `{name}` does not fit its type: {error}"
        raise invalid(text) from error


def _bytes(value):
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    if isinstance(value, str):
        return value.encode()
    raise ValueError(f"no text: {value!r}")


def _to_json(name, array):
    if array.dtype.kind not in "SO":
        return array.tolist()

    def text(value):
        if isinstance(value, list):
            return [text(item) for item in value]
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode("utf-8", "replace")

    return text(array.tolist())
