# SPDX-License-Identifier: Apache-2.0
"""Warm-up records: requests that a server answers before it goes live.

TensorFlow Serving replays them while it loads a version. Its first real
request is then as fast as the others, and a version that loads but cannot
answer (a lost variables.index does that) is refused, so that the old version
goes on serving.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2

from keras_kd.export.manifest import VerificationError
from keras_kd.export.serving.prediction_log import prediction_log_class

BATCH_SIZES = (1, 8)
# TensorFlow Serving refuses a version with more.
MAX_RECORDS = 1000


def warmup_path(saved_model_dir: str | os.PathLike) -> pathlib.Path:
    """Returns where TensorFlow Serving looks for a version's records."""
    folder = pathlib.Path(saved_model_dir) / "assets.extra"
    return folder / "tf_serving_warmup_requests"


def check_batch_sizes(warmup: int | Iterable[int] | None) -> tuple[int, ...]:
    """Returns the batch sizes to warm up, sorted; ValueError if one is bad."""
    sizes = [warmup] if isinstance(warmup, int) else list(warmup or ())
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(
            "`warmup` must be the batch sizes to warm up, such as (1, 32), "
            f"or None for no records. Received: {warmup!r}"
        )
    return tuple(sorted(set(sizes)))


def write_warmup(
    saved_model_dir: str | os.PathLike,
    inputs: dict[str, np.ndarray],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    name: str = "",
    signatures: Sequence[str] = ("serving_default",),
) -> pathlib.Path:
    """Writes one record per batch size and signature into a SavedModel.

    Write them before the version is published: a server reads them once,
    when it loads the version.

    Args:
        saved_model_dir: The SavedModel's folder.
        inputs: Arrays `(rows, ...)` by input name, in the signature's
            dtypes; repeated, or cut, to each batch size.
        batch_sizes: Those that clients send, or that the server's batching
            makes.
        name: The model's name in the server; its logs show it.
        signatures: Which of the model's signatures to ask.

    Returns:
        The file with the records.

    Raises:
        ValueError: If there are more than 1000 records, or no rows.

    Example:

    ```python
    write_warmup("saved_models/student/1", {"image": images}, [1, 32])
    ```
    """
    if not all(len(array) for array in inputs.values()):
        raise ValueError(
            "`inputs` must have at least one row to make requests of. "
            f"Received: { {key: len(a) for key, a in inputs.items()} } rows"
        )
    if len(batch_sizes) * len(signatures) > MAX_RECORDS:
        raise ValueError(
            f"TensorFlow Serving takes at most {MAX_RECORDS} warm-up records. "
            f"Received {len(batch_sizes)} batch sizes for "
            f"{len(signatures)} signatures. Name fewer `batch_sizes`."
        )
    path = warmup_path(saved_model_dir)
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            for size in batch_sizes:
                record = prediction_log_class()()
                request = record.predict_log.request
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for key, array in sorted(repeated(inputs, size).items()):
                    tensor = tf.make_tensor_proto(array).SerializeToString()
                    request.inputs.add(key=key, value=tensor)
                writer.write(record.SerializeToString(deterministic=True))
    return path


def read_warmup(
    saved_model_dir: str | os.PathLike,
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Returns `(signature, arrays by input name)` of each record.

    Raises:
        VerificationError: If TensorFlow Serving would not take the file.
    """
    path = warmup_path(saved_model_dir)
    if not path.exists():
        return []
    requests = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            log = prediction_log_class().FromString(record)
            if not log.HasField("predict_log"):
                raise ValueError("a record holds no PredictRequest")
            requests.append(_request(log.predict_log.request))
    except (tf.errors.OpError, ValueError, TypeError, DecodeError) as error:
        raise VerificationError(
            f"{path} is not a file of warm-up records: expected PredictionLogs "
            f"in TFRecord format. Export the model again. Received: {error}"
        ) from error
    if len(requests) > MAX_RECORDS:
        raise VerificationError(
            f"{path} holds {len(requests)} warm-up records; TensorFlow "
            f"Serving refuses a version with more than {MAX_RECORDS}."
        )
    return requests


def repeated(arrays: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Returns the first `rows` rows, starting over when there are no more."""
    return {
        name: np.asarray(array)[np.arange(rows) % len(array)]
        for name, array in arrays.items()
    }


def _request(request):
    arrays = {}
    for pair in request.inputs:
        tensor = tensor_pb2.TensorProto.FromString(pair.value)
        array = tf.make_ndarray(tensor)
        arrays[pair.key] = array.astype("S") if array.dtype == object else array
    return request.model_spec.signature_name or "serving_default", arrays
