# SPDX-License-Identifier: Apache-2.0
"""write_saved_model(): a SavedModel that keeps its promises to clients."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from typing import Any

import keras
import tensorflow as tf

from keras_kd.export.signature import answer_function
from keras_kd.export.signature import input_specs


def write_saved_model(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    head: str | None = None,
    inputs: Any = None,
    batch_size: int | None = None,
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
        head: `None` (read it from the model), `"logits"`, `"probabilities"`
            or `"regression"`. Classifiers answer with `logits` and
            `probabilities`, whichever of them the model ends in.
        inputs: One batch; tells the dtypes of a subclassed model's inputs.
        batch_size: `None` for any; a number fixes it, as LiteRT needs.

    Returns:
        `directory`.

    Raises:
        ValueError: If the folder is not empty, or the model was never
            called.

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
    specs = input_specs(model, inputs, batch_size)
    answer = answer_function(model, head)
    flat = keras.tree.flatten(specs)

    def serve(*tensors):
        # A shape check that only asserts is folded away, since the rank is
        # known while tracing; ensure_shape stays in the graph.
        guarded = [
            tf.ensure_shape(tensor, spec.shape)
            for tensor, spec in zip(tensors, flat, strict=True)
        ]
        return answer(keras.tree.pack_sequence_as(specs, guarded))

    try:
        _write(serve, flat, directory)
    except AssertionError:
        # A lookup table is saved only with the model that holds it.
        shutil.rmtree(directory, ignore_errors=True)
        _write(serve, flat, directory, model)
    return directory


def _write(serve, signature, directory, tracked=None):
    archive = keras.export.ExportArchive()
    if tracked is not None:
        # Not otherwise: it writes every weight of the model a second time.
        archive.track(tracked)
    archive.add_endpoint("serve", serve, input_signature=signature)
    archive.write_out(str(directory), verbose=False)


@contextlib.contextmanager
def full_precision(model: keras.Model):
    """Lets a mixed precision model compute in float32 inside the block.

    Its weights are float32 already. LiteRT has no float16 arithmetic: the
    converter refuses such a graph.
    """
    changed = []
    for layer in model._flatten_layers():
        policy = layer.dtype_policy
        if policy.compute_dtype in ("float16", "bfloat16"):
            changed.append((layer, policy))
    try:
        for layer, _ in changed:
            layer.dtype_policy = keras.DTypePolicy("float32")
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
