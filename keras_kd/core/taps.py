# SPDX-License-Identifier: Apache-2.0
"""Taps: every named tensor of a model in one forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from collections.abc import Iterable

import keras

from keras_kd.core.composite_taps import OpenedLayer
from keras_kd.core.fused_batch_norm import fused_batch_norm
from keras_kd.core.layer_paths import by_name
from keras_kd.core.layer_paths import paths_in
from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.output_heads import activation_of_tensor
from keras_kd.core.output_heads import named_outputs


def tap(model: keras.Model, names: Iterable[str]) -> keras.Model:
    """Returns a model that gives every named tensor in one forward pass.

    The returned model shares the layers and weights of `model`; nothing is
    copied. A layer inside a nested model or a composite layer is named by its
    path, `"backbone/conv_4"`; an attribute may stand for a name that Keras
    numbered, as `backbone` does of a KerasHub task.

    Args:
        model: A Functional or Sequential model (built, so it has a graph).
        names: Names of layers, of outputs of a model with several, or
            `"output"` for the output of a model with one.

    Returns:
        A functional model on the inputs of `model` whose output is a dict
        `{name: tensor}`.

    Raises:
        ValueError: If `model` has no graph, or a name is not in it (near
            names are listed), or names a layer that is called more than
            once, or one beside the path from inputs to outputs.

    Example:

    ```python
    taps = kd.tap(model, ["conv_2", "output"])
    taps(images)["conv_2"].shape
    ```
    """
    inputs, tensors = _trace(model, list(names))
    return _tapped(model, inputs, tensors)


class ForwardPass:
    """A model's forward pass that also gives its taps, computed once.

    A model without a graph (subclassed) can be used too, as long as only
    its outputs are tapped.

    Args:
        model: The model to run.
        names: Taps, as for `tap`.
    """

    def __init__(self, model: keras.Model, names: Iterable[str]):
        self.model = model
        self.names = tuple(dict.fromkeys(names))
        outputs_only = set(self.names) <= {"output"}
        if not outputs_only:
            check_graph(model)
        self._tapped, self._tensors = None, {}
        if getattr(model, "inputs", None) is not None:
            tapped = _with_outputs(model, self.names)
            self._tensors = tapped.output[1]
            self._tapped = None if outputs_only else tapped

    def shape(self, name: str) -> tuple | None:
        """Returns the shape of a tap, or `None` where it is not known yet."""
        if name not in self._tensors:
            return None
        return tuple(self._tensors[name].shape)

    def activation(self, name: str) -> str | None:
        """Returns what a tap went through last (see `heads.activation_of`)."""
        if name not in self._tensors:
            return None
        return activation_of_tensor(self._tensors[name])

    def __call__(self, x, training: bool | None):
        """Returns `(model output, {name: tensor})`."""
        x = inputs_for(self.model, x)
        # As Keras' own trainer does for a `call` without the argument.
        takes_training = self.model._call_has_training_arg
        kwargs = {"training": training} if takes_training else {}
        with fused_batch_norm(self.model, training):
            if self._tapped is not None:
                return self._tapped(x, training=training)
            prediction = self.model(x, **kwargs)
        return prediction, {name: _only(prediction) for name in self.names}


def for_taps(names, value_of: Callable):
    """Returns the value of a tap, or a list where `names` is a list.

    `None` if any of the values is.
    """
    if isinstance(names, str):
        return value_of(names)
    values = [value_of(name) for name in names]
    return None if any(value is None for value in values) else values


def shape_of(tensors):
    """Returns the shape of a tensor, or the list of those of a list."""
    if isinstance(tensors, list):
        return [tuple(tensor.shape) for tensor in tensors]
    return tuple(tensors.shape)


def _only(prediction):
    tensors = keras.tree.flatten(prediction)
    if len(tensors) != 1:
        raise ValueError(
            f"'output' is ambiguous: the model gives {len(tensors)} tensors. "
            "Build it with keras.Model(inputs, outputs) and name the output "
            "you mean."
        )
    return tensors[0]


def _with_outputs(model, names):
    """Returns a model that gives `(model output, {name: tensor})`."""
    inputs, tensors = _trace(model, [*names, _WHOLE])
    whole = tensors.pop(_WHOLE)
    return _tapped(model, inputs, (whole, tensors))


def _tapped(model, inputs, outputs):
    tapped = keras.Model(inputs, outputs, name=f"{model.name}_taps")
    opened = [op for op in tapped.operations if isinstance(op, OpenedLayer)]
    if opened:
        # Keras finds weights in the layers of a graph, not in what runs them.
        tapped.opened_layers = [operation.layer for operation in opened]
    return tapped


_WHOLE = "/"  # not a name a layer can have


def _trace(model, names):
    """Returns the inputs and `{name: tensor}` of a graph that holds them."""
    check_graph(model)
    real = {name: _by_name(model, name) for name in names}
    plain = _plain(model)
    if any(map(_is_inner, real.values())):
        inputs, tensors = _trace_nested(plain, set(real.values()))
    else:
        inputs = plain.input
        tensors = {name: _find(plain, name) for name in real.values()}
    return inputs, {name: tensors[real[name]] for name in names}


def _by_name(model, name):
    return by_name(model, name) if name != _WHOLE else name


def _is_inner(name):
    return "/" in name and name != _WHOLE


def _plain(model):
    """Returns a bare functional model on the tensors of `model`.

    A Sequential model that was called as a layer gives the caller's tensors
    as its `input`; and cloning a compiled model would compile the clone.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def _trace_nested(plain, names):
    """Runs the graph again, opening the nested models that are tapped."""
    inner_names: dict[str, list[str]] = {}
    for name in filter(_is_inner, names):
        outer, inner = name.split("/", 1)
        inner_names.setdefault(outer, []).append(inner)
    found, opened = {}, {}
    for outer, inner in inner_names.items():
        layer = _layer(plain, outer)
        if outer in names:
            _find(plain, outer)  # raises if it gives several tensors
        _only_call(plain, layer, f"{outer}/{inner[0]}")
        has_graph = getattr(layer, "inputs", None) is not None
        is_model = isinstance(layer, keras.Model) and has_graph
        opens = _with_outputs if is_model else OpenedLayer
        opened[outer] = opens(layer, inner)

    def call(layer, *args, **kwargs):
        if layer.name not in opened:
            return layer(*args, **kwargs)
        whole, tensors = opened[layer.name](*args, **kwargs)
        for inner, tensor in tensors.items():
            found[f"{layer.name}/{inner}"] = tensor
        if layer.name in names:
            found[layer.name] = keras.tree.flatten(whole)[0]
        return whole

    clone = keras.models.clone_model(
        plain, clone_function=lambda layer: layer, call_function=call
    )
    # Tensors of the clone, not of `model`: the opened path must be on the
    # way to every output.
    kept = {n: _find(clone, n) for n in names if n not in found}
    return clone.input, {n: kept.get(n, found.get(n)) for n in names}


def check_graph(model: keras.Model) -> None:
    """Raises unless `model` has a graph of named tensors."""
    if getattr(model, "inputs", None) is None:
        raise ValueError(
            f"Taps need a Functional or Sequential model whose input shape is "
            f"known. '{getattr(model, 'name', model)}' is a "
            f"{type(model).__name__} without a graph: rewrite it with "
            "keras.Model(inputs, outputs), start the Sequential with "
            "keras.Input, or use a loss on outputs only."
        )


def _find(model, name):
    if name == _WHOLE:
        return model.output
    outputs = named_outputs(model)
    if name == "output":
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        raise ValueError(
            f"'output' is ambiguous: '{model.name}' has {len(outputs)} "
            f"outputs. Name one of {list(outputs)}."
        )
    # A layer's name wins unless the model names its outputs itself.
    if name in outputs and isinstance(model.output, dict):
        return outputs[name]
    layer = _layer(model, name, also=outputs)
    if layer is None:
        return outputs[name]
    outputs = _only_call(model, layer, name).outputs
    if len(outputs) != 1:
        raise ValueError(
            f"The tap '{name}' of '{model.name}' is ambiguous: the layer gives "
            f"{len(outputs)} tensors. Follow the one you mean by a named "
            "keras.layers.Identity and tap that."
        )
    return outputs[0]


def _only_call(model, layer, name):
    nodes = {node for nodes in model._nodes_by_depth.values() for node in nodes}
    calls = [node for node in layer._inbound_nodes if node in nodes]
    if len(calls) != 1:
        raise ValueError(
            f"The tap '{name}' of '{model.name}' is ambiguous: '{layer.name}' "
            f"is called {len(calls)} times. Follow the call you mean by a "
            "named keras.layers.Identity and tap that."
        )
    return calls[0]


def _layer(model, name, also=()):
    layers = {layer.name: layer for layer in model.layers}
    if name in layers:
        return layers[name]
    if name in also:
        return None
    known = ["output", *layers, *(p for p in paths_in(model) if "/" in p)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise ValueError(
        f"No layer or output named '{name}' in '{model.name}'. "
        + (f"Did you mean one of {near}? " if near else "")
        + f"It has: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
        + ". A layer that is not on a path from the inputs to the outputs is "
        "not part of the model and never runs: make it an output."
    )
