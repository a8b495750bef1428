# SPDX-License-Identifier: Apache-2.0
"""PredictionLog: the message that a warm-up record is.

It belongs to TensorFlow Serving, whose Python package is an extra; warm-up
records are in every export. So the few messages they need are described
here, with TensorFlow Serving's own field numbers
(tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto,
version 2.21), and protobuf makes the classes. Fields that a warm-up record
leaves empty are left out.
"""

from __future__ import annotations

import functools

PACKAGE = "tensorflow.serving"
_TENSOR = "tensorflow.TensorProto"
# message: {field: (number, type)}; a type in {} is the value of a map whose
# key is a string.
MESSAGES = {
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    "PredictRequest": {
        "model_spec": (1, f"{PACKAGE}.ModelSpec"),
        "inputs": (2, {_TENSOR}),
    },
    "PredictLog": {"request": (1, f"{PACKAGE}.PredictRequest")},
    "PredictionLog": {"predict_log": (6, f"{PACKAGE}.PredictLog")},
}


@functools.cache
def prediction_log_class():
    """Returns the class `tensorflow.serving.PredictionLog`."""
    from google.protobuf import descriptor_pb2
    from google.protobuf import descriptor_pool
    from google.protobuf import message_factory
    from tensorflow.core.framework import tensor_pb2

    # A pool of its own: the default one may hold the real package's files.
    pool = descriptor_pool.DescriptorPool()
    _add(pool, tensor_pb2.DESCRIPTOR, set())
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_kd/export/prediction_log.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{PACKAGE}.PredictionLog")
    )


def _add(pool, file, known):
    """Adds a file and those it depends on, each once."""
    for dependency in file.dependencies:
        _add(pool, dependency, known)
    if file.name not in known:
        known.add(file.name)
        pool.AddSerializedFile(file.serialized_pb)


def _add_field(message, name, number, kind):
    added = message.field.add(name=name, number=number)
    added.label = added.LABEL_OPTIONAL
    if kind == "string":
        added.type = added.TYPE_STRING
        return
    added.type = added.TYPE_MESSAGE
    if isinstance(kind, str):
        added.type_name = f".{kind}"
        return
    # A map is a repeated message of pairs (key, value).
    pair = message.nested_type.add(name=f"{name.title()}Entry")
    pair.options.map_entry = True
    _add_field(pair, "key", 1, "string")
    _add_field(pair, "value", 2, *kind)
    added.label = added.LABEL_REPEATED
    added.type_name = f".{PACKAGE}.{message.name}.{pair.name}"
