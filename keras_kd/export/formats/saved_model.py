# SPDX-License-Identifier: Apache-2.0
"""write_saved_model(): a SavedModel that keeps its promises to clients."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.export.formats.python_only import check_runs_without_python
from keras_kd.export.formats.tolerance import half_precision_layers
from keras_kd.export.signatures.answers import Head
from keras_kd.export.signatures.endpoint import Endpoint
from keras_kd.export.signatures.endpoint import extra_endpoints
from keras_kd.export.signatures.endpoint import make_endpoint


def write_saved_model(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    head: Head = None,
    inputs: Any = None,
    batch_size: int | None = None,
    preprocess: keras.Layer | None = None,
    names: dict[str, str] | None = None,
    labels: Sequence[str] | None = None,
    top_k: int | None = None,
    signatures: dict[str, keras.Model] | None = None,
) -> pathlib.Path:
    """Writes a SavedModel for TensorFlow Serving.

    It has one endpoint, `serve` (and `serving_default`), whose inputs and
    outputs have names that stay the same when the export is repeated. A
    request of a wrong shape gets an error; without the guard written here,
    one of a wrong rank can abort the whole server.

    Args:
        model: Any Keras model that is built: functional, sequential, or
            subclassed and called before.
        directory: New or empty folder.
        head: What the model ends in: `"logits"` or `"probabilities"` of
            classes; `"yes_no"`, either of them for units that say yes or no
            each by itself; `"regression"`. `None` reads it from the last
            activation and from the loss that the model was compiled with;
            where nothing tells, the output stays as it is. Classifiers answer
            with `logits` and `probabilities`, anything else with `output`. Of
            several outputs a dict by name: those that it calls classes answer
            with `species_logits` and `species_probabilities`, the others
            under their own names.
        inputs: One batch; tells the dtypes of a subclassed model's inputs.
        batch_size: `None` for any; a number fixes it, as LiteRT needs.
        preprocess: Layer or model that makes the model's inputs out of what
            clients send, such as uint8 images or strings; goes into the
            graph. The export then takes what `preprocess` takes.
        names: New names by old ones, of inputs and outputs:
            `{"input": "image", "probabilities": "confidence"}`.
        labels: Names of the classes, in the order of the units. Adds the
            outputs `classes` and `scores`, each `(batch, top_k)`: the
            likeliest labels and their probabilities, best first.
        top_k: How many classes to answer with. Defaults to 1 where there are
            labels; without labels the classes are their numbers, as text.
        signatures: Further signatures by name: models of the same inputs,
            such as `{"features": keras.Model(model.input, layer.output)}`.
            Their outputs stay as they are.

    Returns:
        `directory`.

    Raises:
        ValueError: If the folder is not empty, or the model was never
            called, or an option is wrong, or the model only works in Python
            (`tf.py_function`, `.numpy()`).

    Example:

    ```python
    write_saved_model(student, "saved_models/.tmp-student")
    ```
    """
    directory = pathlib.Path(directory)
    # Files of an older export would stay beside the new ones.
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(
            f"`directory` must be new or empty. Received: {directory}"
        )
    common = {"inputs": inputs, "batch_size": batch_size}
    common |= {"preprocess": preprocess, "names": names}
    main = make_endpoint(model, head=head, labels=labels, top_k=top_k, **common)
    endpoints = {"serve": main, **extra_endpoints(main, signatures, **common)}
    parts = [preprocess, model, *(signatures or {}).values()]
    write_endpoints(endpoints, directory, parts)
    return directory


def write_endpoints(
    endpoints: dict[str, Endpoint],
    directory: pathlib.Path,
    parts: Sequence[keras.Layer | None],
) -> None:
    """Writes a SavedModel of endpoints by name, made of parts.

    The parts are the preprocessing, the model, and those of further
    signatures.
    """
    # A lookup table is saved only with the layer that holds it.
    holders = [[], parts[:1], list(parts)]
    while True:
        try:
            _write(endpoints, directory, holders.pop(0))
            break
        except AssertionError:
            shutil.rmtree(directory, ignore_errors=True)
            if not holders:
                raise
    check_runs_without_python(directory)


def _write(endpoints, directory, tracked):
    archive = keras.export.ExportArchive()
    for holder in filter(None, tracked):
        # Not otherwise: it writes every weight of the model a second time.
        archive.track(holder)
    for name, endpoint in endpoints.items():
        archive.add_endpoint(
            name, endpoint.serve, input_signature=endpoint.flat
        )
    archive.write_out(str(directory), verbose=False)


@contextlib.contextmanager
def full_precision(*parts: keras.Layer | None):
    """Lets mixed precision models compute in float32 inside the block.

    Their weights are float32 already. LiteRT has no float16 arithmetic: the
    converter refuses such a graph.
    """
    changed = [
        (layer, layer.dtype_policy)
        for part in filter(None, parts)
        for layer in half_precision_layers(part)
    ]
    try:
        for layer, _ in changed:
            layer.dtype_policy = keras.DTypePolicy("float32")
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
