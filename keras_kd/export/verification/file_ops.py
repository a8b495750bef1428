# SPDX-License-Identifier: Apache-2.0
"""file_ops(): what a SavedModel would do beside computing.

A SavedModel is a program: its graph may read and write files, print, run
Python and open connections. Its own variables are read by a function that
TensorFlow has written; all else that is not known to compute only is found
here, without loading or running any of it.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
from typing import Any

from keras_kd.export.manifest import VerificationError

_TOUCHES = re.compile(
    "File|Reader|Dataset|Save|Restore|Checkpoint|Remap|Proto|Summary|Event"
    "|Debug|Dump|Print|ImmutableConst|Skipgram|RecordInput|FixedUnigram"
    "|PyFunc|Rpc|Remote|CustomCall|Configur|Collective|Abort|TPU|^Copy"
)
"""In the name of an operation that files, processes or networks feel."""

_STATE = re.compile(
    "(Stateful)?PartitionedCall|If|While|Case|Assert|CheckNumerics(V2)?|Empty"
    "|VarHandleOp|(Read|Assign|AssignAdd|AssignSub)VariableOp|VariableShape"
    "|VarIsInitializedOp|Variable(V2)?|TemporaryVariable|DestroyResourceOp"
    "|DisableCopyOnRead|GuaranteeConst|IsTensorFloat32Enabled|DeviceIndex"
    "|Resource(Gather|Scatter|Apply|SparseApply|StridedSliceAssign).*"
    "|(Anonymous)?(HashTable|Mutable(Dense)?HashTable)(OfTensors)?(V2)?"
    "|LookupTable.*|InitializeTable(V2)?|TensorArray.*|Stack.*|CudnnRNN.*"
    "|Multinomial|(Parameterized)?TruncatedNormal|NonDeterministicInts"
    "|Random(Crop|Gamma|PoissonV?2?|Shuffle|StandardNormal|Uniform(Int)?)"
    "|Stateful(Random|Standard|Truncated|Uniform).*|Rng(ReadAndSkip|Skip)"
    "|StatelessRandomGetAlg|SampleDistortedBoundingBox(V2)?"
    "|(All|LogUniform|Uniform|LearnedUnigram|ThreadUnsafeUnigram)"
    "CandidateSampler"
)
"""Names of operations whose state is the model's own: variables, tables, and
generators of random numbers."""


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
    for gradient in meta_graph.graph_def.library.gradient:
        if gradient.gradient_func in functions:
            called = functions[gradient.gradient_func].node_def
            elsewhere |= {gradient.gradient_func, *_reached(called, functions)}
    for name, function in functions.items():
        # Whatever no saver calls is looked at, reached or not.
        if not any(name in reached for reached in own.values()):
            elsewhere |= _reached(function.node_def, functions)
    saves, restores = (own.get(n, set()) - elsewhere for n in (save, restore))
    from_loader = _is_fed(restore, nodes, saver)
    for node in nodes:
        if node.op not in functions and not _computes_only(node.op):
            yield f"{node.op} in the graph"
    for name, function in functions.items():
        for node in function.node_def:
            if node.op in functions or _computes_only(node.op):
                continue
            if name in saves - restores:
                continue  # no server ever calls it
            reads = name in restores and node.op == "RestoreV2"
            if reads and from_loader and _prefix_is_given(node, function):
                continue
            yield f"{node.op} in {name}"


@functools.cache
def _computes_only(op: str) -> bool:
    """Whether all that an operation does is known to be computing.

    TensorFlow marks what has an effect beside its result, though not what
    reads files. What it does not know, such as an operation of a library of
    one's own, may do anything.
    """
    from tensorflow.python.framework import op_def_registry

    known = op_def_registry.get(op)
    if known is None or _TOUCHES.search(op):
        return False
    return not known.is_stateful or bool(_STATE.fullmatch(op))


def _reached(nodes, functions) -> set[str]:
    """Returns the names of all functions that nodes call, directly or not."""
    found: set[str] = set()
    waiting: list[Any] = list(nodes)
    while waiting:
        node = waiting.pop()
        for name in {node.op, *_named(node)} & set(functions) - found:
            found.add(name)
            waiting += functions[name].node_def
    return found


def _named(holder):
    """Yields the functions that attributes name, those of these included."""
    for value in holder.attr.values():
        for function in (value.func, *value.list.func):
            yield function.name
            yield from _named(function)


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
