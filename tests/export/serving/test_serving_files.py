# SPDX-License-Identifier: Apache-2.0
"""Serving files: they say what the model is called, takes and answers."""

from __future__ import annotations

import re
import types

import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_kd.export import docker_command
from keras_kd.export import server_command
from keras_kd.export.serving.serving_files import RETRIES
from keras_kd.export.serving.serving_files import batching_parameters
from keras_kd.export.serving.serving_files import client_source
from keras_kd.export.serving.serving_files import models_config

FILES = [
    "SERVING.md",
    "batching_parameters.txt",
    "client.py",
    "docker-compose.yml",
    "manifest.json",
    "models.config",
]


def load(path):
    """Returns a copied client as a module, with no bytecode left beside it."""
    module = types.ModuleType("client")
    exec(compile(path.read_text(), path, "exec"), module.__dict__)
    return module


def test_export_writes_serving_files_beside_the_versions(exported):
    folder = exported.folder / "cnn" / "serving"
    assert sorted(p.name for p in folder.iterdir()) == FILES
    guide = (folder / "SERVING.md").read_text()
    for part in server_command(exported.folder / "cnn"):
        assert part in guide
    for said in (
        "Predict, by REST and gRPC. Classify and Regress take",
        "takes the highest number only",
        "keras-kd verify --repair",
    ):
        assert said in guide
    compose = (folder / "docker-compose.yml").read_text()
    for flag in RETRIES:
        assert flag in compose and flag in docker_command(folder.parent)
    assert "--enable_batching" not in compose
    # The record knows them, so that a run sees damage and writes them anew.
    written = {p for p in exported.record.artefacts if "/serving/" in p}
    assert written == {f"cnn/serving/{name}" for name in FILES}


def test_server_command_names_model_path_and_ports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = server_command("models/my student", 1, 2)
    assert command == [
        "tensorflow_model_server",
        "--port=1",
        "--rest_api_port=2",
        "--model_name=my student",
        f"--model_base_path={tmp_path}/models/my student",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
    ]
    batching = server_command("m", batching=True)[-2:]
    file = f"{tmp_path}/m/serving/batching_parameters.txt"
    assert batching == [
        "--enable_batching",
        f"--batching_parameters_file={file}",
    ]


def test_docker_command_mounts_the_model_for_reading(tmp_path):
    command = docker_command(tmp_path / "m", rest_port=99, batching=True)
    assert f"{tmp_path}/m:/models/m:ro" in command
    assert "99:8501" in command and "MODEL_NAME=m" in command
    file = "/models/m/serving/batching_parameters.txt"
    assert command[-1] == f"--batching_parameters_file={file}"


def test_models_config_is_one_that_the_server_reads():
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2 as config_pb2

    config = text_format.Parse(
        models_config("student"), config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("student", "/models/student")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1


@pytest.mark.parametrize(
    "sizes, allowed",
    [((), [32]), ((1, 8), [1, 8, 32]), ((4, 64), [4, 64]), ((32,), [32])],
)
def test_batching_parameters_end_in_the_largest_batch(sizes, allowed):
    text = batching_parameters(sizes)
    found = [
        int(n) for n in re.findall(r"^allowed_batch_sizes: (\d+)", text, re.M)
    ]
    (largest,) = re.findall(r"^max_batch_size \{ value: (\d+) \}", text, re.M)
    assert found == allowed and int(largest) == allowed[-1]


def test_batching_parameters_parse_as_the_message_they_are():
    from google.protobuf import descriptor_pb2
    from google.protobuf import descriptor_pool
    from google.protobuf import message_factory
    from google.protobuf import text_format
    from google.protobuf import wrappers_pb2

    # BatchingParameters of session_bundle_config.proto; its Python module is
    # in no package.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="b.proto",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    names = ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches"]
    for number, name in enumerate([*names, "num_batch_threads"], start=1):
        field = message.field.add(name=name, number=number, type=11, label=1)
        field.type_name = ".google.protobuf.Int64Value"
    message.field.add(name="allowed_batch_sizes", number=6, type=3, label=3)
    pool.Add(file)
    parameters = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("BatchingParameters")
    )()
    text_format.Parse(batching_parameters((1, 8)), parameters)
    assert list(parameters.allowed_batch_sizes) == [1, 8, 32]
    assert parameters.max_batch_size.value == 32
    assert parameters.num_batch_threads.value >= 1


def test_compose_file_serves_the_folder_above_it(exported):
    path = exported.folder / "cnn" / "serving" / "docker-compose.yml"
    service = yaml.safe_load(path.read_text())["services"]["cnn"]
    assert service["volumes"] == ["..:/models/cnn:ro"]
    assert service["command"] == [
        "--model_config_file=/models/cnn/serving/models.config",
        *RETRIES,
    ]
    assert (path.parent.parent / "serving" / "models.config").exists()


def test_client_knows_the_model(exported):
    client = load(exported.folder / "cnn" / "serving" / "client.py")
    assert client.MODEL == "cnn"
    assert client.INPUTS == {"image": ("float32", (None, 12, 12, 1))}
    assert client.OUTPUTS == {"serving_default": ["logits", "probabilities"]}
    assert client.example(3)["image"].shape == (3, 12, 12, 1)


def test_client_source_of_many_inputs_compiles_and_keeps_its_types(tmp_path):
    specs = [
        tf.TensorSpec((None,), tf.string, "text"),
        tf.TensorSpec((None, None, 3), tf.uint8, "a_name_that_is_rather_long"),
        tf.TensorSpec((None, 7), tf.int64, "another_name_of_some_length"),
    ]
    outputs = ["classes", "scores", "features:output", "features:more"]
    path = tmp_path / "client.py"
    path.write_text(client_source("it's \\n", specs, outputs))
    client = load(path)
    assert client.MODEL == "it's \\n"
    assert client.OUTPUTS == {
        "serving_default": ["classes", "scores"],
        "features": ["output", "more"],
    }
    example = client.example(2)
    assert example["a_name_that_is_rather_long"].shape == (2, 32, 3)
    assert {k: v.dtype.kind for k, v in example.items()} == {
        "text": "S",
        "a_name_that_is_rather_long": "u",
        "another_name_of_some_length": "i",
    }
    coded = client._to_json("text", np.array([b"\xff", b"b"]))
    assert coded == [{"b64": "/w=="}, {"b64": "Yg=="}]
