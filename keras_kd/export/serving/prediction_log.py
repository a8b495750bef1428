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
# message: {field: (number, type)}; a type in [] may come several times.
MESSAGES = {
    "ModelSpec": {"name": (1, "string"), "signature_name": (3, "string")},
    # A map is a list of pairs to protobuf, and a message in it is bytes: here
    # those of a TensorProto, which TensorFlow reads and writes.
    "InputsEntry": {"key": (1, "string"), "value": (2, "bytes")},
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, ["InputsEntry"]),
    },
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}


@functools.cache
def prediction_log_class():
    """Returns the class `tensorflow.serving.PredictionLog`."""
    from google.protobuf import descriptor_pb2
    from google.protobuf import descriptor_pool
    from google.protobuf import message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="keras_kd/export/prediction_log.proto",
        package=PACKAGE,
        syntax="proto3",
    )
    for message, fields in MESSAGES.items():
        added = file.message_type.add(name=message).field
        for name, (number, kind) in fields.items():
            field = added.add(name=name, number=number)
            field.label = field.LABEL_OPTIONAL
            if isinstance(kind, list):
                field.label, (kind,) = field.LABEL_REPEATED, kind
            if kind in MESSAGES:
                field.type_name = f".{PACKAGE}.{kind}"
            else:
                field.type = field.Type.Value(f"TYPE_{kind.upper()}")
    # A pool of its own: the default one may hold the real package's files.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{PACKAGE}.PredictionLog")
    )
