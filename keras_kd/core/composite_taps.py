# SPDX-License-Identifier: Apache-2.0
"""Taps of layers inside a composite layer, such as an encoder of blocks.

A composite layer is one node of a model's graph: what its layers give is
recorded while it runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import keras

from keras_kd.core.layer_paths import children_of
from keras_kd.core.layer_paths import layer_at


class OpenedLayer(keras.Operation):
    """Runs a layer and gives `(its output, {path: what a layer in it gave})`.

    Not a layer itself, which would add a cast, a mask and a name of its own
    to those of the layer that it runs.

    Args:
        layer: A composite layer.
        paths: Of layers in it, as for `layer_at`.

    Raises:
        ValueError: If a path leads to no layer; and at the call, if that does
            not run once, or gives several tensors.
    """

    def __init__(self, layer: keras.layers.Layer, paths: Iterable[str]):
        super().__init__(name=layer.name)
        self.layer = layer
        if not children_of(layer):
            raise ValueError(
                f"The tap '{layer.name}/{next(iter(paths))}' looks inside the "
                f"layer '{layer.name}', which is a {type(layer).__name__} and "
                "has no layers in it. Name the layer itself."
            )
        self.inner = {path: layer_at(layer, path) for path in paths}

    def call(self, *args, **kwargs):
        found: dict[str, list] = {path: [] for path in self.inner}
        with contextlib.ExitStack() as stack:
            for path, layer in self.inner.items():
                stack.enter_context(_recorded(layer, found[path]))
            whole = self.layer(*args, **kwargs)
        place = _graph_of(whole)
        tensors = {}
        for path, outputs in found.items():
            name = f"{self.layer.name}/{path}"
            if len(outputs) != 1:
                raise ValueError(
                    f"The tap '{name}' must run once in a pass. Received: "
                    f"{len(outputs)} calls. Name another layer."
                )
            if isinstance(outputs[0], (dict, list, tuple)):
                raise ValueError(
                    f"The tap '{name}' is ambiguous: the layer gives several "
                    "tensors. Name one that gives one tensor."
                )
            if _graph_of(outputs[0]) is not place:
                raise ValueError(
                    f"The tap '{name}' runs in a loop of '{self.layer.name}', "
                    "whose tensors do not leave it. Name another layer."
                )
            tensors[path] = outputs[0]
        return whole, tensors


@contextlib.contextmanager
def _recorded(layer, outputs):
    """Appends what a layer gives; `call` is what Keras looks up to run it."""
    call = layer.call

    def recording(*args, **kwargs):
        output = call(*args, **kwargs)
        outputs.append(output)
        return output

    attributes = vars(layer)
    shadowed = attributes.get("call")
    attributes["call"] = recording
    try:
        yield
    finally:
        del attributes["call"]
        if shadowed is not None:
            attributes["call"] = shadowed


def _graph_of(tensors):
    return getattr(keras.tree.flatten(tensors)[0], "graph", None)
