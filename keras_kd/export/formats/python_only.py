# SPDX-License-Identifier: Apache-2.0
"""Models that only work in Python: refused, for no server has any.

Nor does a server keep a state from one request to the next.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pathlib

import keras

PYTHON_OPERATIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


@contextlib.contextmanager
def naming_python():
    """Says that a model cannot become a graph, where tracing it fails.

    Raises:
        ValueError: Instead of what its own code raises about a tensor that
            has no values yet.
    """
    try:
        yield
    # What `.numpy()`, `if tensor:` and `np.asarray(tensor)` raise in a graph.
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise ValueError(
            "The model cannot become a graph, which is all that a server "
            "runs: its `call` needs values, as in `.numpy()` or an `if` about "
            "a tensor. Expected keras.ops or TensorFlow operations only. "
            f"Received: {type(error).__name__}: {str(error)[:500]}"
        ) from error


def check_keeps_no_state(model: keras.Layer) -> None:
    """Raises ValueError if a layer goes on from the batch before."""
    layers = model._flatten_layers()
    names = [part.name for part in layers if getattr(part, "stateful", False)]
    if names:
        raise ValueError(
            f"The layers {names} are stateful: they carry state from one batch "
            "to the next, and all clients of a server would share it. "
            "Expected layers that start afresh with each request. Build "
            "the model with stateful=False and a free batch size, copy the "
            "weights by set_weights, and send whole sequences."
        )


def check_takes_one_batch(model: keras.Layer) -> None:
    """Raises ValueError if a model is called with several arguments."""
    parameters = inspect.signature(model.call).parameters.values()
    named = [
        p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    needed = [p.name for p in named if p.default is p.empty]
    if len(needed) > 1:
        raise ValueError(
            f"`{model.name}` is called with several arguments, {needed}; a "
            "request has one batch of named arrays. Expected a `call` of one "
            "argument, such as a dict: wrap the model in one whose "
            "`call(self, inputs)` returns "
            f"self.model({', '.join(f'inputs[{n!r}]' for n in needed)})."
        )


def check_runs_without_python(saved_model_dir: str | os.PathLike) -> None:
    """Raises ValueError if a SavedModel calls back into Python.

    `tf.py_function` and `tf.numpy_function` leave in the graph only the
    number of a function in the process that wrote it.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    content = pathlib.Path(saved_model_dir, "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
    nodes = list(graph.graph_def.node)
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    names = {node.name for node in nodes if node.op in PYTHON_OPERATIONS}
    if names:
        raise ValueError(
            "The model calls Python code, which no server and no device has: "
            "a layer of it uses tf.py_function or tf.numpy_function. Expected "
            "keras.ops or TensorFlow operations only; what prepares the data "
            "may stay in the client. Received these nodes (layer/operation): "
            f"{sorted(names)[:5]}"
        )
