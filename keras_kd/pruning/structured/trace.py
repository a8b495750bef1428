# SPDX-License-Identifier: Apache-2.0
"""Trace: follows every channel through a model's graph, once."""

from __future__ import annotations

import keras
from keras import layers

from keras_kd.pruning.structured.channels import ChannelGraph
from keras_kd.pruning.structured.channels import Flow
from keras_kd.pruning.structured.channels import Traced
from keras_kd.pruning.structured.kinds import PRODUCERS
from keras_kd.pruning.structured.kinds import WEIGHTS
from keras_kd.pruning.structured.rules import Unsupported
from keras_kd.pruning.structured.rules import carry
from keras_kd.pruning.structured.rules import tensors_of


def trace(model: keras.Model) -> ChannelGraph:
    """Returns who is who among the channels of a model.

    Nothing is computed: only shapes are read. Nested models are opened, and
    a layer that is called more than once ties the channels of its calls.

    Raises:
        ValueError: If the model has no graph, or a layer has its channels
            first.
    """
    check_graph(model, "prune_channels")
    graph = ChannelGraph()
    inputs = [Flow(graph.fresh(t.shape[-1])) for t in model.inputs]
    for flow in (*inputs, *_run(graph, model, inputs, "")):
        graph.keep(flow.ids)
    return graph


def has_graph(layer) -> bool:
    """Says whether a layer is a model that is nothing but its graph."""
    kind = type(layer)  # a subclass may have a `call` of its own
    functional = kind.__module__ == "keras.src.models.functional"
    return (functional or kind is keras.Sequential) and bool(
        getattr(layer, "inputs", None)
    )


def check_graph(model, caller: str) -> None:
    """Raises a ValueError, for a public function, unless `has_graph`."""
    if not has_graph(model):
        raise ValueError(
            f"{caller} needs a Functional or Sequential model whose input "
            f"shape is known. '{getattr(model, 'name', model)}' is a "
            f"{type(model).__name__} without a graph of its own. Write it "
            "with keras.Model(inputs, outputs), or start the Sequential with "
            "keras.Input."
        )


def graph_of(model: keras.Model) -> keras.Model:
    """Returns the functional model that a model is, or a Sequential has."""
    return getattr(model, "_functional", None) or model


def calls_of(graph: keras.Model) -> list:
    """Returns the nodes of a graph, each after those it depends on."""
    by_depth = graph._nodes_by_depth
    depths = sorted(by_depth, reverse=True)
    return [node for depth in depths for node in by_depth[depth]]


def _run(graph, model, flows, prefix):
    """Returns the flows that a model gives for those it gets."""
    model = graph_of(model)
    known = dict(zip(map(id, model.inputs), flows, strict=True))
    for node in calls_of(model):
        if node.is_input:
            ids = known[id(node.outputs[0])].ids
            path = prefix + node.operation.name
            _record(graph, node.operation, path, None, ids)
            continue
        given = [known[id(tensor)] for tensor in tensors_of(node)]
        found = _call(graph, node, given, prefix)
        known.update(zip(map(id, node.outputs), found, strict=True))
    return [known[id(tensor)] for tensor in model.outputs]


def _call(graph, node, given, prefix):
    operation = node.operation
    path = prefix + operation.name
    nested = has_graph(operation)
    if nested and _called_by_position(node):
        return _run(graph, operation, given, f"{path}/")
    inputs = [flow.ids for flow in given]
    try:
        if nested:
            raise Unsupported("a nested model must get its inputs as a list")
        ids = carry(graph, operation, path, inputs, node)
    except Unsupported as error:
        outputs = [graph.fresh(t.shape[-1]) for t in node.outputs]
        for ids in (*inputs, *outputs):
            graph.block(ids, path, str(error))
        return [Flow(ids) for ids in outputs]
    if type(operation) in WEIGHTS:
        _record(graph, operation, path, inputs[0], ids)
        axes = WEIGHTS[type(operation)].values()
        if any("in" in counted.values() for counted in axes):
            graph.consumed.append(given[0])
    elif isinstance(operation, layers.Reshape):
        _record(graph, operation, path, None, ids)
    is_layer = isinstance(operation, keras.layers.Layer)
    return [Flow(ids, path if is_layer else None)]


def _called_by_position(node):
    """Says whether tensors given are the model's inputs in their order."""
    inputs = node.operation.inputs
    if len(inputs) == 1:
        return len(tensors_of(node)) == 1
    given = node.arguments.args[0] if node.arguments.args else None
    ordered = (list, tuple)
    return isinstance(given, ordered) and isinstance(
        node.operation.input, ordered
    )


def _record(graph, layer, path, ids_in, ids_out):
    earlier = graph.layers.get(id(layer))
    if earlier is None:
        traced = Traced(layer, path, ids_in, ids_out)
        graph.layers[id(layer)] = traced
        if type(layer) in PRODUCERS:
            graph.producers.append(traced)
        return
    pairs = ((earlier.ids_in, ids_in), (earlier.ids_out, ids_out))
    for first, second in pairs:
        if first is None or second is None:
            continue
        if len(first) == len(second):
            graph.unite(first, second)
        else:
            for ids in (first, second):
                graph.block(ids, path, "it is called on several sizes")
