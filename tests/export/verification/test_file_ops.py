# SPDX-License-Identifier: Apache-2.0
"""A SavedModel that does more than compute is not run by `verify`."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_kd.cli import main
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import write_manifest
from keras_kd.export.verification.directory import repair_directory
from keras_kd.export.verification.file_ops import check_trust
from keras_kd.export.verification.file_ops import file_ops
from keras_kd.export.verification.golden import write_golden


def changed(version, change):
    """Writes the SavedModel of a version anew, after `change(meta_graph)`."""
    file = version / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())


def function_of(meta_graph, tensor):
    name = tensor.partition(":")[0]
    (node,) = (n for n in meta_graph.graph_def.node if n.name == name)
    called = node.attr["f"].func.name
    functions = meta_graph.graph_def.library.function
    return node, next(f for f in functions if f.signature.name == called)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A model that writes a file when it is asked anything."""
    folder = tmp_path_factory.mktemp("foreign")

    class Model(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")]
        )
        def serve(self, x):
            tf.io.write_file(str(folder / "planted"), "ran")
            return {"y": 2 * tf.ensure_shape(x, (None, 3))}

    model, path = Model(), folder / "m" / "1"
    tf.saved_model.save(model, path, signatures=model.serve)
    x = np.ones((2, 3), "float32")
    write_golden(path, {"x": x}, {"y": 2 * x}, 1e-4)
    write_manifest(path)
    return folder


def test_own_exports_touch_no_file(exported, second):
    assert file_ops(exported.version) == file_ops(second / "1") == []


def test_foreign_model_is_listed_and_not_run(foreign, capsys):
    folder = foreign / "m"
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "WriteFile in __inference" in out and "--trust" in out
    assert not (foreign / "planted").exists()
    # What was only not run is no reason to take it out of service.
    (found,) = repair_directory(folder)
    assert found[0] == folder / "1" and (folder / "1").is_dir()
    assert main(["verify", str(folder), "--trust"]) == 0
    assert (foreign / "planted").read_text() == "ran"


def test_saving_is_found_where_a_request_could_reach_it(copied):
    """As what answers, as what another node waits for, at the start."""
    for change in (
        lambda g, n: (
            g.signature_def["serving_default"]
            .outputs["logits"]
            .CopyFrom(_info(n))
        ),
        lambda g, n: g.graph_def.node.add(name="a", op="NoOp").input.append(
            f"^{n}"
        ),
        lambda g, n: g.collection_def[
            "saved_model_main_op"
        ].node_list.value.append(n),
    ):
        version = copied.folder / "changed"
        shutil.copytree(copied.version, version)

        def use(graph, change=change):
            change(graph, graph.saver_def.save_tensor_name.split(":")[0])

        changed(version, use)
        found = file_ops(version)
        assert any(op.startswith("SaveV2 in") for op in found)
        assert not any(op.startswith("Restore") for op in found)
        shutil.rmtree(version)


def _info(name):
    info = tf.compat.v1.MetaGraphDef().signature_def["a"].outputs["a"]
    info.name = f"{name}:0"
    return info


def test_restoring_is_found_where_it_reads_another_path(copied):
    def other(graph):
        node, _ = function_of(graph, graph.saver_def.restore_op_name)
        node.input[0] = "Const"

    def inside(graph):
        _, function = function_of(graph, graph.saver_def.restore_op_name)
        (read,) = (n for n in function.node_def if n.op == "RestoreV2")
        read.input[0] = read.input[1]

    def written(graph):
        _, function = function_of(graph, graph.saver_def.restore_op_name)
        function.node_def.add(name="w", op="WriteFile")

    def unreached(graph):
        function = graph.graph_def.library.function.add()
        function.signature.name = "hidden"
        function.node_def.add(name="p", op="PyFunc")

    def called(graph):
        """The function that saves, called by its name and in an attribute."""
        node, function = function_of(graph, graph.saver_def.save_tensor_name)
        graph.graph_def.node.add(name="c", op=function.signature.name)

    def hidden(graph):
        node, function = function_of(graph, graph.saver_def.save_tensor_name)
        call = graph.graph_def.node.add(name="c", op="NoOp")
        inner = call.attr["f"].func.attr["g"].func
        inner.name = function.signature.name

    def gradient(graph):
        _, function = function_of(graph, graph.saver_def.save_tensor_name)
        for name in (function.signature.name, "none there"):
            graph.graph_def.library.gradient.add(
                function_name="f", gradient_func=name
            )

    for change in (called, hidden, gradient):
        version = shutil.copytree(copied.version, copied.folder / "changed")
        changed(version, change)
        assert any(op.startswith("SaveV2 in") for op in file_ops(version))
        shutil.rmtree(version)
    for change, op in (
        (other, "RestoreV2 in"),
        (inside, "RestoreV2 in"),
        (written, "WriteFile in"),
        (unreached, "PyFunc in hidden"),
    ):
        version = shutil.copytree(copied.version, copied.folder / "changed")
        changed(version, change)
        (found,) = file_ops(version)
        assert found.startswith(op), change
        shutil.rmtree(version)


@pytest.mark.parametrize(
    "op",
    [
        *("ReadFile", "MatchingFiles", "PyFuncStateless"),  # not stateful
        *("Abort", "Copy", "XlaLaunch", "Send", "SleepOp", "QueueEnqueueV2"),
        "OfALibraryOfOnesOwn",
    ],
)
def test_what_is_not_known_to_compute_only_is_refused(tmp_path, op):
    model = saved_model_pb2.SavedModel()
    graph = model.meta_graphs.add().graph_def
    for name in (*COMPUTES, op):
        graph.node.add(name=name, op=name)
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert file_ops(tmp_path) == [f"{op} in the graph"]


COMPUTES = (
    *(
        "MatMul",
        "RandomUniform",
        "StatelessRandomUniformV2",
        "MutableHashTable",
    ),
    *("HashTableV2", "LookupTableFindV2", "InitializeTableV2", "Assert"),
    *("TensorListReserve", "TensorArrayV3", "CudnnRNNV3", "StatelessWhile"),
    *("StaticRegexReplace", "StringSplitV2", "UnicodeDecode", "ReadVariableOp"),
    *("MutableHashTableV2", "ResourceGather", "VarIsInitializedOp"),
)


def test_second_graph_and_damaged_one_are_refused(copied):
    (copied.version / "saved_model.pbtxt").write_text("")
    with pytest.raises(ValueError, match="another graph in saved_model.pbtxt"):
        check_trust(copied.version)
    (copied.version / "saved_model.pb").write_bytes(b"\xff" * 20)
    with pytest.raises(VerificationError, match="cannot be read"):
        check_trust(copied.version)
