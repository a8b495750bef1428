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


_Pointer, _Int, _Text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_Int64, _Size = ctypes.c_int64, ctypes.c_size_t
# What each function returns, and takes. Without it, pointers are cut short.
FUNCTIONS = {
    "TF_NewStatus": (_Pointer,),
    "TF_NewGraph": (_Pointer,),
    "TF_NewBuffer": (ctypes.POINTER(_Buffer),),
    "TF_NewSessionOptions": (_Pointer,),
    "TF_LoadSessionFromSavedModel": (
        *(_Pointer, _Pointer, _Pointer, _Text, _Pointer, _Int),
        *(_Pointer, _Pointer, _Pointer),
    ),
    "TF_SessionRun": (
        *(None, _Pointer, _Pointer, _Pointer, _Pointer, _Int),
        *(_Pointer, _Pointer, _Int, _Pointer, _Int, _Pointer, _Pointer),
    ),
    "TF_GetCode": (_Int, _Pointer),
    "TF_Message": (_Text, _Pointer),
    "TF_GraphOperationByName": (_Pointer, _Pointer, _Text),
    "TF_AllocateTensor": (_Pointer, _Int, _Pointer, _Int, _Size),
    "TF_DeleteTensor": (None, _Pointer),
    "TF_TensorData": (_Pointer, _Pointer),
    "TF_TensorType": (_Int, _Pointer),
    "TF_TensorByteSize": (_Size, _Pointer),
    "TF_NumDims": (_Int, _Pointer),
    "TF_Dim": (_Int64, _Pointer, _Int),
    "TF_StringInit": (None, _Pointer),
    "TF_StringCopy": (None, _Pointer, _Text, _Size),
    "TF_StringGetSize": (_Size, _Pointer),
    "TF_StringGetDataPointer": (_Pointer, _Pointer),
}


class SavedModelSession:
    """A loaded SavedModel that answers requests by its signature.

    Args:
        path: Folder of the SavedModel (the one that holds saved_model.pb).

    Raises:
        RuntimeError: If TensorFlow's loader refuses the folder.
    """

    def __init__(self, path):
        self._tf = tf = _load_library()
        self._status, self._graph = tf.TF_NewStatus(), tf.TF_NewGraph()
        buffer = tf.TF_NewBuffer()
        options, tags = tf.TF_NewSessionOptions(), (_Text * 1)(b"serve")
        where = (options, None, str(path).encode(), tags, 1)
        self._session = tf.TF_LoadSessionFromSavedModel(
            *where, self._graph, buffer, self._status
        )
        self._raise_for_status()
        content = buffer.contents
        meta_graph = _meta_graph_class().FromString(
            ctypes.string_at(content.data, content.length)
        )
        self.signatures = dict(meta_graph.signature_def)
        self.inputs = dict(self.signature("serving_default").inputs)

    def signature(self, name: str):
        """Returns a SignatureDef; RuntimeError if there is none so named."""
        if name not in self.signatures:
            raise RuntimeError(
                f"It has no signature '{name}', only: {sorted(self.signatures)}"
            )
        return self.signatures[name]

    def run(self, request: dict, signature: str = "serving_default") -> dict:
        """Answers one request: arrays by input name to arrays by output name.

        Arrays go as they are, right or wrong. RuntimeError if the runtime
        answers with an error status.
        """
        inputs = dict(self.signature(signature).inputs)
        outputs = dict(self.signature(signature).outputs)
        if set(request) != set(inputs):
            raise RuntimeError(
                f"It takes the inputs {sorted(inputs)}, "
                f"received: {sorted(request)}"
            )
        tensors = [self._to_tensor(request[name]) for name in inputs]
        given = (_Pointer * len(tensors))(*tensors)
        answers = (_Pointer * len(outputs))()
        self._tf.TF_SessionRun(
            *(self._session, None),
            *(self._points(inputs), given, len(given)),
            *(self._points(outputs), answers, len(answers)),
            *(None, 0, None, self._status),
        )
        for tensor in tensors:
            self._tf.TF_DeleteTensor(tensor)
        self._raise_for_status()
        arrays = [self._to_array(tensor) for tensor in answers]
        return dict(zip(outputs, arrays, strict=True))

    def _points(self, infos):
        """Returns where in the graph the named tensors are."""
        names = [info.name.rsplit(":", 1) for info in infos.values()]
        find = self._tf.TF_GraphOperationByName
        return (_Output * len(names))(
            *((find(self._graph, op.encode()), int(at)) for op, at in names)
        )

    def _to_tensor(self, array):
        array = np.asarray(array, order="C")
        code = _code_of(array.dtype)
        text = code == STRING
        size = array.size * TSTRING_BYTES if text else array.nbytes
        shape = (_Int64 * array.ndim)(*array.shape)
        tensor = self._tf.TF_AllocateTensor(code, shape, array.ndim, size)
        place = self._tf.TF_TensorData(tensor)
        if not text:
            ctypes.memmove(place, array.ctypes.data, array.nbytes)
            return tensor
        for index, value in enumerate(array.ravel().tolist()):
            value = value if isinstance(value, bytes) else value.encode()
            string = place + index * TSTRING_BYTES
            self._tf.TF_StringInit(string)
            self._tf.TF_StringCopy(string, value, len(value))
        return tensor

    def _to_array(self, tensor):
        tf = self._tf
        code = tf.TF_TensorType(tensor)
        if code not in DTYPES and code != STRING:
            raise RuntimeError(f"No NumPy type for TensorFlow's type {code}")
        shape = [tf.TF_Dim(tensor, i) for i in range(tf.TF_NumDims(tensor))]
        place, size = tf.TF_TensorData(tensor), tf.TF_TensorByteSize(tensor)
        if code == STRING:
            texts = range(place, place + size, TSTRING_BYTES)
            array = np.array([self._text(text) for text in texts], "S")
        else:
            array = np.frombuffer(ctypes.string_at(place, size), DTYPES[code])
        tf.TF_DeleteTensor(tensor)
        return array.reshape(shape)

    def _text(self, string):
        data = self._tf.TF_StringGetDataPointer(string)
        return ctypes.string_at(data, self._tf.TF_StringGetSize(string))

    def _raise_for_status(self):
        if self._tf.TF_GetCode(self._status) != 0:
            text = self._tf.TF_Message(self._status)
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
    for name, (result, *arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _meta_graph_class():
    """Returns MetaGraphDef without running TensorFlow's own __init__."""
    if "tensorflow" not in sys.modules:
        bare = types.ModuleType("tensorflow")
        bare.__path__ = [str(_package_folder())]
        sys.modules["tensorflow"] = bare
    from tensorflow.core.protobuf import meta_graph_pb2

    return meta_graph_pb2.MetaGraphDef
