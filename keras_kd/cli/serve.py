# SPDX-License-Identifier: Apache-2.0
"""`keras-kd serve`: start TensorFlow Serving, or say what is missing.

`--runtime python` serves by what is installed, for trying a client.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys

import keras_kd as kd
from keras_kd.cli.arguments import add_command

INSTALL = """\
keras-kd: there is no tensorflow_model_server on the PATH and no docker that
runs. Install one of them:
  tensorflow_model_server  https://www.tensorflow.org/tfx/serving/setup
                           (Debian and Ubuntu: its apt repository, package
                           tensorflow-model-server)
  docker                   https://docs.docker.com/engine/install
Or try a client without them: keras-kd serve --runtime python FOLDER
Then start the server by this command again, or by one of
"""
TRYING = """\
Python's own server, for trying a client, not for production: REST only, one
request at a time, this version only. Ctrl-C stops it.
"""


def add_serve(commands: argparse._SubParsersAction) -> None:
    """Adds `keras-kd serve`."""
    versions = "a model's folder, the one that holds its versions"
    parser = add_command(commands, _serve, versions)
    parser.add_argument(
        "--port", type=int, default=8500, help="for gRPC (default: 8500)"
    )
    parser.add_argument(
        "--rest-port", type=int, default=8501, help="for REST (default: 8501)"
    )
    parser.add_argument(
        "--batching",
        action="store_true",
        help="batch requests that arrive together; it has its costs, see "
        "serving/SERVING.md",
    )

    parser.add_argument(
        "--runtime",
        choices=("tensorflow", "python"),
        default="tensorflow",
        help="tensorflow: TensorFlow Serving, by its program or its container "
        "(default); python: the same REST from what is installed, on this "
        "machine, one request at a time: for trying a client, not for "
        "production",
    )


def _serve(options):
    """Serve an exported model."""
    directory = options.directory
    if not any(directory.glob("[1-9]*/saved_model.pb")):
        raise FileNotFoundError(
            f"{directory} holds no version to serve. Expected folders such as "
            f"{directory / '1'} with a saved_model.pb, as export writes."
        )
    if options.runtime == "python":
        return _serve_by_python(directory, options.rest_port)
    how = (directory, options.port, options.rest_port, options.batching)
    native = kd.export.server_command(*how)
    docker = kd.export.docker_command(*how)
    if shutil.which(native[0]):
        return _become(native)
    if _docker_runs():
        return _become(docker)
    print(INSTALL, file=sys.stderr)
    for command in (native, docker):
        print(f"  {shlex.join(command)}", file=sys.stderr)
    return 2


def _serve_by_python(directory, port):
    from keras_kd.export.serving.python_server import NewestVersion
    from keras_kd.export.serving.python_server import python_server

    served = NewestVersion(directory)
    with python_server(served, port) as server:
        url = f"http://127.0.0.1:{server.server_port}/v1/models/{served.name}"
        print(f"{TRYING}{url}/versions/{served.version}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _docker_runs():
    try:
        # The client may be there without its daemon.
        command = ["docker", "info"]
        done = subprocess.run(command, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _become(command):
    print(shlex.join(command), flush=True)
    # The command line sets it to silence its own TensorFlow.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]
    # Not a child: a signal sent to this process reaches the server.
    os.execvp(command[0], command)
