# SPDX-License-Identifier: Apache-2.0
"""keras-kd serve: what it starts, and what it says when it cannot."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from export.serving.test_serving_files import load
from keras_kd.cli import main
from keras_kd.export import docker_command
from keras_kd.export import export
from keras_kd.export import server_command


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "models" / "student"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "saved_model.pb").write_text("model")
    return folder


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty folder as the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(folder, name, text):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def run(*arguments):
    command = [sys.executable, "-m", "keras_kd.cli", "serve"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True
    )


def test_serve_says_what_to_install_and_prints_the_commands(
    model, path, capsys
):
    assert main(["serve", str(model), "--port", "7"]) == 2
    text = capsys.readouterr().err
    for command in (server_command(model, 7), docker_command(model, 7)):
        assert " ".join(command) in text
    assert "tensorflow-model-server" in text


def test_serve_does_not_take_a_docker_without_daemon_for_one(
    model, path, capsys
):
    script(path, "docker", "echo no daemon >&2; exit 1")
    assert main(["serve", str(model)]) == 2
    assert "no docker that\nruns" in capsys.readouterr().err


def test_serve_refuses_a_folder_without_version(tmp_path, capsys):
    assert main(["serve", str(tmp_path)]) == 2
    assert "holds no version to serve" in capsys.readouterr().err


FOUND = pytest.mark.parametrize("found", ["tensorflow_model_server", "docker"])


class Became(Exception):
    """Stands for a process that is another from here on."""


@FOUND
def test_serve_hands_the_process_over_to_what_is_there(
    model, path, found, monkeypatch, capsys
):
    def become(*call):
        raise Became(*call)

    monkeypatch.setattr(os, "execvp", become)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    script(path, found, "exit 0")
    with pytest.raises(Became) as called:
        main(["serve", str(model), "--rest-port", "9", "--batching"])
    make = docker_command if found == "docker" else server_command
    expected = make(model, 8500, 9, True)
    assert called.value.args == (expected[0], expected)
    assert capsys.readouterr().out == f"{' '.join(expected)}\n"
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ


@pytest.mark.slow
@FOUND
def test_serve_becomes_the_server_that_is_there(model, path, found):
    # A stand-in for the server: it only tells how it was called.
    tell = '[ "$1" = info ] && exit 0; echo "$0 $@ $TF_CPP_MIN_LOG_LEVEL"'
    script(path, found, f"{tell}; exit 5")
    done = run(model, "--rest-port", "9", "--batching")
    make = docker_command if found == "docker" else server_command
    expected = " ".join(make(model, 8500, 9, True))
    assert done.stdout.splitlines() == [expected, f"{path}/{expected} "]
    assert done.returncode == 5


@pytest.mark.slow
def test_serve_passes_signals_to_the_server(model, path):
    script(
        path,
        "tensorflow_model_server",
        "trap 'exit 7' TERM\n:>up\nwhile :; do :; done",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_kd.cli", "serve", str(model)],
        cwd=path,
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if os.path.exists(path / "up"):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 7
    finally:
        process.kill()


@pytest.mark.slow
def test_python_runtime_answers_the_client_that_lies_beside_the_model(
    tmp_path,
):
    """Over loopback, by the command, to the client as it was shipped."""
    x = np.random.default_rng(0).random((3, 4), "float32")
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    export(student, tmp_path, "m", "saved_model", inputs=x, verbose=False)
    command = [sys.executable, "-m", "keras_kd.cli", "serve", "--runtime"]
    command += ["python", "--rest-port", "0", str(tmp_path / "m")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while not (line := process.stdout.readline()).startswith("http"):
            assert line, "it ended without telling where it serves"
        assert line.strip().endswith("/v1/models/m/versions/1")
        url = line.partition("/v1")[0]
        client = load(tmp_path / "m" / "serving" / "client.py")
        for version in (None, 1):
            answers = client.predict_rest({"input": x}, url, version)
            np.testing.assert_allclose(answers["logits"], student(x), atol=1e-6)
        with pytest.raises(RuntimeError, match="HTTP 404.*not found"):
            client.predict_rest({"input": x}, url, version=2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
