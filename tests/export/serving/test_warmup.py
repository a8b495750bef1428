# SPDX-License-Identifier: Apache-2.0
"""Warm-up records: TensorFlow Serving's bytes, answered before going live."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_kd.export import VerificationError
from keras_kd.export import verify
from keras_kd.export import verify_directory
from keras_kd.export.manifest import read_manifest
from keras_kd.export.manifest import write_manifest
from keras_kd.export.serving.warmup import check_batch_sizes
from keras_kd.export.serving.warmup import read_warmup
from keras_kd.export.serving.warmup import repeated
from keras_kd.export.serving.warmup import warmup_path
from keras_kd.export.serving.warmup import write_warmup
from selection import quick

INPUTS = {
    "image": np.arange(12, dtype="uint8").reshape(3, 2, 2),
    "half": np.array([[1.5], [-2.0], [0.0]], "float16"),
    "text": np.array([b"one", b"", "drei \u00e4".encode()]),
}


def real_messages():
    from tensorflow_serving.apis import prediction_log_pb2

    return prediction_log_pb2


def records(folder):
    path = str(warmup_path(folder))
    return list(tf.data.TFRecordDataset(path).as_numpy_iterator())


def rewrite(folder, contents):
    with tf.io.TFRecordWriter(str(warmup_path(folder))) as writer:
        for content in contents:
            writer.write(content)
    write_manifest(folder)


def test_write_warmup_writes_the_bytes_of_the_real_messages(tmp_path):
    messages = real_messages()
    write_warmup(tmp_path, INPUTS, (1, 5), "m", ("serving_default", "other"))
    expected = []
    for signature in ("serving_default", "other"):
        for size in (1, 5):
            log = messages.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = "m"
            request.model_spec.signature_name = signature
            for name, array in INPUTS.items():
                rows = np.concatenate([array, array])[:size]
                request.inputs[name].CopyFrom(tf.make_tensor_proto(rows))
            expected.append(log.SerializeToString(deterministic=True))
    assert records(tmp_path) == expected


def test_real_messages_have_the_numbers_described(tmp_path):
    real_messages()
    from tensorflow_serving.apis import model_pb2
    from tensorflow_serving.apis import predict_pb2
    from tensorflow_serving.apis import prediction_log_pb2

    from keras_kd.export.serving.prediction_log import MESSAGES

    files = (model_pb2, predict_pb2, prediction_log_pb2)
    files += (predict_pb2.PredictRequest,)  # its map's pairs are in it
    for message, fields in MESSAGES.items():
        (real,) = [getattr(f, message) for f in files if hasattr(f, message)]
        for name, (number, _) in fields.items():
            assert real.DESCRIPTOR.fields_by_name[name].number == number


def test_read_warmup_gives_back_what_was_written(tmp_path):
    write_warmup(tmp_path, INPUTS, (2, 7))
    two, seven = read_warmup(tmp_path)
    for (signature, arrays), rows in ((two, 2), (seven, 7)):
        assert signature == "serving_default"
        assert set(arrays) == set(INPUTS)
        for name, array in repeated(INPUTS, rows).items():
            np.testing.assert_array_equal(arrays[name], array)
            assert arrays[name].dtype.kind == array.dtype.kind


def test_read_warmup_of_a_model_without_records_is_empty(tmp_path):
    assert read_warmup(tmp_path) == []


@pytest.mark.parametrize(
    "warmup, sizes",
    [((32, 1, 1), (1, 32)), (4, (4,)), (None, ()), ([], ())],
)
def test_check_batch_sizes(warmup, sizes):
    assert check_batch_sizes(warmup) == sizes


@pytest.mark.parametrize("warmup", [0, (1, -2), (1.5,), (True,)])
def test_check_batch_sizes_refuses(warmup):
    with pytest.raises(ValueError, match="`warmup` must be the batch sizes"):
        check_batch_sizes(warmup)


def test_write_warmup_refuses_more_than_a_server_takes(tmp_path):
    with pytest.raises(ValueError, match="at most 1000 warm-up records"):
        write_warmup(tmp_path, INPUTS, range(1, 1002))
    none = {name: array[:0] for name, array in INPUTS.items()}
    with pytest.raises(ValueError, match="at least one row"):
        write_warmup(tmp_path, none)
    assert not warmup_path(tmp_path).exists()


@pytest.mark.slow
def test_export_writes_records_that_its_manifest_covers(exported):
    requests = read_warmup(exported.version)
    assert [len(arrays["image"]) for _, arrays in requests] == [1, 8]
    np.testing.assert_array_equal(
        requests[1][1]["image"][5], exported.images[0]
    )
    path = warmup_path(exported.version).relative_to(exported.version)
    assert str(path) in read_manifest(exported.version)["files"]
    assert f"cnn/1/{path}" in exported.record.artefacts


def test_verify_compares_what_records_are_answered_with(copied):
    # Records are answered first, so it is one of them that is complained of.
    tiled = {"logits": np.concatenate([copied.logits] * 2)}
    images = np.concatenate([copied.images] * 2)
    verify(copied.version, images, tiled)
    tiled["logits"][7] += 1.0
    with pytest.raises(VerificationError, match="warm-up record 1 is not"):
        verify(copied.version, images, tiled)


@pytest.mark.parametrize(
    "fault", quick(3, ["garbage", "other", "shape", "name"])
)
def test_verify_names_a_record_no_server_takes(copied, fault):
    path = warmup_path(copied.version)
    texts = {
        "garbage": "not a file of warm-up records",
        "other": "not a file of warm-up records",
        "shape": "warm-up record 2",
        "name": "warm-up record 2",
    }
    good = records(copied.version)
    images = copied.images
    if fault == "garbage":
        path.write_bytes(b"garbage" * 9)
        write_manifest(copied.version)
    elif fault == "other":
        rewrite(copied.version, [*good, b""])
    else:
        wrong = {"image": images[:, :5]}
        if fault == "name":
            wrong = {"picture": images}
        write_warmup(copied.version, wrong, (1,))
        rewrite(copied.version, [*good, *records(copied.version)])
    with pytest.raises(VerificationError, match=texts[fault]):
        verify(copied.version, images, {"logits": copied.logits})


def test_verify_directory_finds_a_flipped_bit_in_the_records(copied):
    path = warmup_path(copied.version)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems = dict(verify_directory(copied.folder / "cnn"))
    assert f"{path} is damaged" in problems[copied.version]
    assert problems[copied.tflite] is None
