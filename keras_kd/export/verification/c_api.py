# SPDX-License-Identifier: Apache-2.0
"""SavedModelSession: a SavedModel behind TensorFlow's C API, as served.

TensorFlow Serving loads a version with the C++ loader and runs its session;
TensorFlow's C API reaches the same code. No Python of TensorFlow stands in
between: its shape checks would hide a request that aborts a server.
"""

from __future__ import annotations

import ctypes
import importlib.util
import pathlib
import sys
import types

import numpy as np

STRING = 7
# TensorFlow's DataType numbers (types.proto) that NumPy can hold.
DTYPES = {
    1: np.float32,
    2: np.float64,
    3: np.int32,
    4: np.uint8,
    5: np.int16,
    6: np.int8,
    9: np.int64,
    10: np.bool_,
    17: np.uint16,
    19: np.float16,
    22: np.uint32,
    23: np.uint64,
}
TSTRING_BYTES = 24


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("data_deallocator", ctypes.c_void_p),
    ]


class _Output(ctypes.Structure):
    _fields_ = [("oper", ctypes.c_void_p), ("index", ctypes.c_int)]


class SavedModelSession:
    """A loaded SavedModel that answers requests by its signature.

    Args:
        path: Folder of the SavedModel (the one that holds saved_model.pb).

    Raises:
        RuntimeError: If TensorFlow's loader refuses the folder.
    """

    def __init__(self, path):
        self._library = _load_library()
        self._status = self._call("TF_NewStatus", ctypes.c_void_p)
        self._graph = self._call("TF_NewGraph", ctypes.c_void_p)
        buffer = self._call("TF_NewBuffer", ctypes.POINTER(_Buffer))
        self._session = self._call(
            "TF_LoadSessionFromSavedModel",
            ctypes.c_void_p,
            self._call("TF_NewSessionOptions", ctypes.c_void_p),
            None,
            str(path).encode(),
            (ctypes.c_char_p * 1)(b"serve"),
            1,
            self._graph,
            buffer,
            self._status,
        )
        self._raise_for_status()
        content = buffer.contents
        meta_graph = _meta_graph_class().FromString(
            ctypes.string_at(content.data, content.length)
        )
        self.signatures = dict(meta_graph.signature_def)
        signature = self.signature("serving_default")
        self.inputs = dict(signature.inputs)
        self.outputs = dict(signature.outputs)

    def signature(self, name: str):
        """Returns a SignatureDef; RuntimeError if there is none so named."""
        if name not in self.signatures:
            raise RuntimeError(
                f"It has no signature '{name}', only: {sorted(self.signatures)}"
            )
        return self.signatures[name]

    def run(
        self,
        request: dict,
        signature: str = "serving_default",
        as_is: bool = False,
    ) -> dict:
        """Answers one request: arrays by input name to arrays by output name.

        Args:
            request: Arrays by input name.
            signature: Name of the signature to ask.
            as_is: Whether to send arrays in their own dtypes, right or wrong,
                instead of the signature's.

        Raises:
            RuntimeError: If the runtime answers with an error status.
        """
        inputs = dict(self.signature(signature).inputs)
        outputs = dict(self.signature(signature).outputs)
        if set(request) != set(inputs):
            raise RuntimeError(
                f"It takes the inputs {sorted(inputs)}, "
                f"received: {sorted(request)}"
            )
        given = [
            self._to_tensor(request[name], None if as_is else info.dtype)
            for name, info in inputs.items()
        ]
        count = len(outputs)
        answers = (ctypes.c_void_p * count)()
        self._call(
            "TF_SessionRun",
            None,
            self._session,
            None,
            self._points(inputs),
            (ctypes.c_void_p * len(given))(*given),
            len(given),
            self._points(outputs),
            answers,
            count,
            None,
            0,
            None,
            self._status,
        )
        for tensor in given:
            self._call("TF_DeleteTensor", None, tensor)
        self._raise_for_status()
        arrays = [self._to_array(tensor) for tensor in answers]
        return dict(zip(outputs, arrays, strict=True))

    def typed(self, request: dict, signature: str) -> dict:
        """Returns a request in the signature's dtypes; text stays as it is."""
        infos = self.signature(signature).inputs
        return {
            name: np.asarray(array, DTYPES.get(infos[name].dtype))
            for name, array in request.items()
        }

    def _points(self, infos):
        """Returns where in the graph the named tensors are."""
        points = (_Output * len(infos))()
        for point, info in zip(points, infos.values(), strict=True):
            operation, index = info.name.rsplit(":", 1)
            point.oper = self._call(
                "TF_GraphOperationByName",
                ctypes.c_void_p,
                self._graph,
                operation.encode(),
            )
            point.index = int(index)
        return points

    def _to_tensor(self, array, code):
        if code is None:
            code = _code_of(np.asarray(array).dtype)
        text = code == STRING
        if not text and code not in DTYPES:
            raise RuntimeError(f"No NumPy type for TensorFlow's type {code}")
        array = np.asarray(array, order="C")
        if not text:
            array = np.asarray(array, DTYPES[code], order="C")
        size = array.size * TSTRING_BYTES if text else array.nbytes
        tensor = self._call(
            "TF_AllocateTensor",
            ctypes.c_void_p,
            code,
            (ctypes.c_int64 * array.ndim)(*array.shape),
            array.ndim,
            ctypes.c_size_t(size),
        )
        place = self._call("TF_TensorData", ctypes.c_void_p, tensor)
        if not text:
            ctypes.memmove(place, array.ctypes.data, array.nbytes)
            return tensor
        for index, value in enumerate(array.ravel().tolist()):
            value = value if isinstance(value, bytes) else value.encode()
            string = place + index * TSTRING_BYTES
            self._call("TF_StringInit", None, string)
            length = ctypes.c_size_t(len(value))
            self._call("TF_StringCopy", None, string, value, length)
        return tensor

    def _to_array(self, tensor):
        code = self._call("TF_TensorType", ctypes.c_int, tensor)
        rank = self._call("TF_NumDims", ctypes.c_int, tensor)
        shape = [
            self._call("TF_Dim", ctypes.c_int64, tensor, axis)
            for axis in range(rank)
        ]
        if code not in DTYPES and code != STRING:
            raise RuntimeError(f"No NumPy type for TensorFlow's type {code}")
        place = self._call("TF_TensorData", ctypes.c_void_p, tensor)
        size = self._call("TF_TensorByteSize", ctypes.c_size_t, tensor)
        if code == STRING:
            texts = range(place, place + size, TSTRING_BYTES)
            array = np.array([self._text(text) for text in texts], "S")
        else:
            array = np.frombuffer(ctypes.string_at(place, size), DTYPES[code])
        self._call("TF_DeleteTensor", None, tensor)
        return array.reshape(shape)

    def _text(self, string):
        size = self._call("TF_StringGetSize", ctypes.c_size_t, string)
        data = self._call("TF_StringGetDataPointer", ctypes.c_void_p, string)
        return ctypes.string_at(data, size)

    def _call(self, name, result, *arguments):
        function = getattr(self._library, name)
        function.restype = result
        # A bare Python int would be passed as a 32-bit C int: pointers break.
        wide = [
            ctypes.c_void_p(value)
            if isinstance(value, int) and value > 2**31 - 1
            else value
            for value in arguments
        ]
        return function(*wide)

    def _raise_for_status(self):
        if self._call("TF_GetCode", ctypes.c_int, self._status) != 0:
            text = self._call("TF_Message", ctypes.c_char_p, self._status)
            raise RuntimeError(text.decode("utf-8", "replace"))


def _code_of(dtype):
    if dtype.kind in "SUO":
        return STRING
    codes = [code for code, kind in DTYPES.items() if kind == dtype]
    if not codes:
        raise RuntimeError(f"TensorFlow has no type for NumPy's {dtype}")
    return codes[0]


def _package_folder():
    # find_spec locates the package without importing it.
    spec = importlib.util.find_spec("tensorflow")
    return pathlib.Path(spec.submodule_search_locations[0])


def _load_library():
    folder = _package_folder()
    for stem in ("libtensorflow_framework", "libtensorflow_cc"):
        files = sorted(folder.glob(f"{stem}.so*"))
        if not files:
            raise RuntimeError(f"{folder} holds no {stem}.so")
        library = ctypes.CDLL(str(files[0]), mode=ctypes.RTLD_GLOBAL)
    return library


def _meta_graph_class():
    """Returns MetaGraphDef without running TensorFlow's own __init__."""
    if "tensorflow" not in sys.modules:
        bare = types.ModuleType("tensorflow")
        bare.__path__ = [str(_package_folder())]
        sys.modules["tensorflow"] = bare
    from tensorflow.core.protobuf import meta_graph_pb2

    return meta_graph_pb2.MetaGraphDef
