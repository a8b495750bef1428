# SPDX-License-Identifier: Apache-2.0
"""Serving files: what a server and its clients need beside the versions.

`serving/` in the model's folder holds TensorFlow Serving's configuration, a
docker-compose file, a client, and SERVING.md, which says how to use them.
They are written anew by each export, and checked by `keras-kd verify`: copy
them to change them.
"""

from __future__ import annotations

import os
import pathlib
import pprint
import re
import shlex
from collections.abc import Iterable
from collections.abc import Sequence

from keras_kd.export.serving import client

FOLDER = "serving"
# Largest batch that a server makes of several requests, where no larger one
# is asked for.
MAX_BATCH_SIZE = 32
# By default a server tries a damaged version six times, a minute apart, and
# loads no other of the model meanwhile: a sound version that follows it would
# wait for five minutes. One more try, a second later, is enough for a file
# system that was slow.
RETRIES = ("--max_num_load_retries=1", "--load_retry_interval_micros=1000000")


def server_command(
    base_dir: str | os.PathLike,
    port: int = 8500,
    rest_port: int = 8501,
    batching: bool = False,
) -> list[str]:
    """Returns the command that serves a model from this machine.

    Args:
        base_dir: The model's folder, the one that holds its versions.
        port: For gRPC.
        rest_port: For REST.
        batching: Whether the server makes batches of requests that come
            together. SERVING.md says when that pays and what it costs.

    Example:

    ```python
    print(*server_command("saved_models/student"))  # for a shell
    ```
    """
    # TensorFlow Serving refuses relative paths.
    base_dir = pathlib.Path(base_dir).absolute()
    command = [
        "tensorflow_model_server",
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={base_dir.name}",
        f"--model_base_path={base_dir}",
        *RETRIES,
    ]
    return command + (_batching_flags(base_dir) if batching else [])


def docker_command(
    base_dir: str | os.PathLike,
    port: int = 8500,
    rest_port: int = 8501,
    batching: bool = False,
) -> list[str]:
    """Returns the command that serves a model from a container."""
    base_dir = pathlib.Path(base_dir).absolute()
    name = base_dir.name
    command = ["docker", "run", "--rm"]
    command += ["-p", f"{port}:8500", "-p", f"{rest_port}:8501"]
    command += ["-v", f"{base_dir}:/models/{name}:ro"]
    command += ["-e", f"MODEL_NAME={name}", "tensorflow/serving", *RETRIES]
    return command + (_batching_flags(f"/models/{name}") if batching else [])


def serving_files(
    base_dir: str | os.PathLike,
    inputs: Iterable,
    outputs: Sequence[str],
    batch_sizes: Sequence[int] = (),
) -> dict[str, str]:
    """Returns what the folder `serving` holds: content by file name.

    Inputs are a `tf.TensorSpec` each; an output of a further signature is
    named `"signature:output"`; batching fills up to the batch sizes.
    """
    base_dir = pathlib.Path(base_dir).absolute()
    name = base_dir.name
    return {
        "SERVING.md": _guide(base_dir),
        "models.config": models_config(name),
        "batching_parameters.txt": batching_parameters(batch_sizes),
        "docker-compose.yml": _compose(name),
        "client.py": client_source(name, inputs, outputs),
    }


def models_config(name: str) -> str:
    """Returns a ModelServerConfig with the one model, as in a container."""
    return f"""model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""


def batching_parameters(batch_sizes: Sequence[int] = ()) -> str:
    """Returns BatchingParameters that fill batches up to known sizes."""
    largest = max(MAX_BATCH_SIZE, *batch_sizes, 1)
    sizes = sorted({*batch_sizes, largest})
    # A server refuses sizes whose last is not max_batch_size.
    allowed = "".join(f"allowed_batch_sizes: {size}\n" for size in sizes)
    return f"""# A request with more rows than max_batch_size is refused.
max_batch_size {{ value: {largest} }}
{allowed}# Longest time that a request waits for others.
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: {os.cpu_count() or 1} }}
"""


def client_source(name: str, inputs: Iterable, outputs: Sequence[str]) -> str:
    """Returns the source of a client that knows the model."""
    by_signature: dict[str, list[str]] = {}
    for output in outputs:
        signature, _, key = output.rpartition(":")
        home = by_signature.setdefault(signature or "serving_default", [])
        home.append(key)
    model = {
        "MODEL": name,
        "INPUTS": {s.name: (s.dtype.name, tuple(s.shape)) for s in inputs},
        "OUTPUTS": by_signature,
    }
    lines = "".join(
        f"{key} = {pprint.pformat(value, width=70, sort_dicts=False)}\n"
        for key, value in model.items()
    )
    source = pathlib.Path(client.__file__).read_text("utf-8")
    marks = r"(the outputs of each signature\.\n).*?(# End of the model\.)"
    return re.sub(
        marks, lambda m: m[1] + lines + m[2], source, count=1, flags=re.DOTALL
    )


def _batching_flags(base_dir):
    path = f"{base_dir}/{FOLDER}/batching_parameters.txt"
    return ["--enable_batching", f"--batching_parameters_file={path}"]


def _compose(name):
    retries = "\n".join(f"      - {flag}" for flag in RETRIES)
    return f"""# Start it in this folder: docker compose up
services:
  "{name}":
    image: tensorflow/serving:${{TF_SERVING_VERSION:-latest}}
    command:
      - --model_config_file=/models/{name}/{FOLDER}/models.config
{retries}
    ports:
      - "8500:8500"
      - "8501:8501"
    volumes:
      - ..:/models/{name}:ro
    restart: unless-stopped
"""


def _guide(base_dir):
    name = base_dir.name
    plain = _lines(server_command(base_dir))
    docker = _lines(docker_command(base_dir))
    flags = " ".join(map(shlex.quote, _batching_flags(base_dir)))
    return f"""# Serving `{name}`

The numbered folders beside this one are the model's versions; a server takes
the highest and changes to a new one as soon as it appears. The files here are
written anew by each export, and `keras-kd verify` says where one was changed:
copy what you want to change.

With TensorFlow Serving on this machine:

```sh
{plain}
```

In a container, one of

```sh
{docker}
cd {shlex.quote(str(base_dir / FOLDER))} && docker compose up
```

`{" ".join(RETRIES)}`: by default a server tries a damaged version six times,
a minute apart, and a sound one that follows it waits so long.

Is it up, and what does it take?

```sh
curl http://localhost:8501/v1/models/{name}
curl http://localhost:8501/v1/models/{name}/metadata
python client.py --rest http://localhost:8501
python client.py --grpc localhost:8500
python client.py --rest http://localhost:8501 --request ../1/golden.npz
```

The last asks what version 1 was verified with, instead of zeros.

## What is served

Predict, by REST and gRPC. Classify and Regress take `tf.Example` messages,
for which this model has no signature: a server answers them with
INVALID_ARGUMENT.

## Versions

While a server runs, a new version that fails to load changes nothing: the one
before goes on serving. A server that starts takes the highest number only. If
that one is damaged it serves nothing, however many older versions are kept;
those are for going back to. Check before a restart, and move a damaged newest
version aside (it is renamed, not deleted) by

```sh
keras-kd verify --repair {shlex.quote(str(base_dir))}
```

## Batching

Off, unless you append to the first command
`{flags}`.
It pays where many clients send few rows each to a model that computes several
rows faster than one after another, as on a GPU. It costs:

- every request waits up to `batch_timeout_micros` for others;
- a request with more rows than `max_batch_size` is refused;
- a request without rows hangs until another one comes;
- one client that sends wrong shapes fails the requests of the others in its
  batch: two such clients failed 15,167 of 15,434 good requests in a trial.

So switch it on only where all clients are your own.
"""


def _lines(command):
    return " \\\n    ".join(map(shlex.quote, command))
