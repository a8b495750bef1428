# SPDX-License-Identifier: Apache-2.0
"""file_ops(): what a SavedModel would do beside computing.

A SavedModel is a program: its graph may read and write files, print, run
Python and open connections. Its own variables are read by a function that
TensorFlow has written; everything else of that kind is found here, without
loading or running any of it.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

from keras_kd.export.manifest import VerificationError

_TOUCHES = re.compile(
    "File|Reader|Dataset|Save|Restore|Checkpoint|Remap|Proto|Summary|Event"
    "|Debug|Dump|Print|ImmutableConst|Skipgram|RecordInput|FixedUnigram"
    "|PyFunc|Rpc|Remote|CustomCall|Configur|Collective"
)
"""In the name of an operation that files, processes or networks feel."""


class UntrustedError(ValueError):
    """A SavedModel that would touch files or processes; it was not run."""


def check_trust(path: str | os.PathLike) -> None:
    """Raises `UntrustedError` for a SavedModel that is more than a model.

    Args:
        path: A version's folder.

    Raises:
        VerificationError: If saved_model.pb cannot be read.
    """
    found = file_ops(path)
    if found:
        some = ", ".join(found[:5]) + (", ..." if found[5:] else "")
        raise UntrustedError(
            f"{path} was not run: its graph may read or write files, run "
            "code or open connections. Expected operations that compute "
            f"only. Received: {some}. If you trust who made it as you would "
            "trust a program, verify it with --trust (in Python trust=True)."
        )


def file_ops(path: str | os.PathLike) -> list[str]:
    """Returns `operation in function` of all that touches files and the like.

    Left out is what saves and restores the model's own variables, as long
    as nothing else calls it and it restores from where the loader says.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = pathlib.Path(path)
    found = []
    for other in ("saved_model.pbtxt", "saved_model.cpb"):
        # A loader may prefer it to saved_model.pb.
        if (path / other).exists():
            found.append(f"another graph in {other}")
    if not (path / "saved_model.pb").exists():
        return found  # nothing that could run
    try:
        content = (path / "saved_model.pb").read_bytes()
        meta_graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    except DecodeError as error:
        raise VerificationError(
            f"{path / 'saved_model.pb'} cannot be read. Export the model "
            f"again. Received: {error}"
        ) from error
    for meta_graph in meta_graphs:
        found += _in_graph(meta_graph)
    return list(dict.fromkeys(found))


def _in_graph(meta_graph):
    functions = {
        f.signature.name: f for f in meta_graph.graph_def.library.function
    }
    nodes, saver = list(meta_graph.graph_def.node), meta_graph.saver_def
    save, restore = _node(saver.save_tensor_name), _node(saver.restore_op_name)
    own = {
        n.name: _reached([n], functions)
        for n in nodes
        if n.name in {save, restore} - _used(meta_graph)
    }
    elsewhere = _reached([n for n in nodes if n.name not in own], functions)
    for name, function in functions.items():
        # Whatever no saver calls is looked at, reached or not.
        if not any(name in reached for reached in own.values()):
            elsewhere |= _reached(function.node_def, functions)
    saves, restores = (own.get(n, set()) - elsewhere for n in (save, restore))
    from_loader = _is_fed(restore, nodes, saver)
    for node in nodes:
        if _TOUCHES.search(node.op):
            yield f"{node.op} in the graph"
    for name, function in functions.items():
        for node in function.node_def:
            if not _TOUCHES.search(node.op):
                continue
            if name in saves - restores:
                continue  # no server ever calls it
            reads = name in restores and node.op == "RestoreV2"
            if reads and from_loader and _prefix_is_given(node, function):
                continue
            yield f"{node.op} in {name}"


def _reached(nodes, functions) -> set[str]:
    """Returns the names of all functions that nodes call, directly or not."""
    found: set[str] = set()
    waiting: list[Any] = list(nodes)
    while waiting:
        for value in waiting.pop().attr.values():
            named = [value.func.name, *(f.name for f in value.list.func)]
            for name in set(named) & set(functions) - found:
                found.add(name)
                waiting += functions[name].node_def
    return found


def _used(meta_graph) -> set[str]:
    """Returns the nodes that requests, the start or other nodes run."""
    names = {i for n in meta_graph.graph_def.node for i in n.input}
    for signature in meta_graph.signature_def.values():
        infos = (*signature.inputs.values(), *signature.outputs.values())
        names |= {info.name for info in infos}
    for collection in meta_graph.collection_def.values():
        names |= set(collection.node_list.value)
    return set(map(_node, names))


def _is_fed(restore, nodes, saver):
    """Whether the first input of the restoring node is what a loader feeds."""
    fed = _node(saver.filename_tensor_name)
    given = [
        [_node(i) for i in n.input[:1]] for n in nodes if n.name == restore
    ]
    is_open = any(n.name == fed and n.op == "Placeholder" for n in nodes)
    return is_open and given == [[fed]]


def _prefix_is_given(node, function):
    arguments = [a.name for a in function.signature.input_arg]
    return node.input[:1] == arguments[:1]


def _node(tensor):
    return tensor.partition(":")[0].removeprefix("^")
