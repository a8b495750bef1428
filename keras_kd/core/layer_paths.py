# SPDX-License-Identifier: Apache-2.0
"""Paths: how a layer inside a model or a composite layer is named.

`"encoder/block_3"` goes by the names of layers. Where Keras numbered a name,
an attribute stands for it: `"backbone/transformer_layer_0"` for the `backbone`
of a KerasHub task, `"encoder/blocks/3"` for a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_kd.core.arguments import did_you_mean


def layer_at(model: keras.layers.Layer, path: str) -> keras.layers.Layer:
    """Returns the layer at a path.

    Args:
        model: A model or composite layer.
        path: Names or attributes of layers, and places in lists, by `/`.

    Raises:
        ValueError: If there is none; lists what there is.
    """
    place = model
    for part in path.split("/"):
        place = _step(place, part, model, path)
    if isinstance(place, keras.layers.Layer):
        return place
    raise ValueError(
        f"'{path}' of '{model.name}' must be the path of one layer. "
        f"Received: a {type(place).__name__}"
    )


def children_of(parent: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers in a model or composite layer, not those in them."""
    if isinstance(parent, keras.Model) and parent.layers:
        return parent.layers
    # No public way leads to the layers of a layer.
    return list(parent._flatten_layers(recursive=False, include_self=False))


def paths_in(parent: keras.layers.Layer, prefix: str = "") -> Iterator[str]:
    """Yields the paths of all layers in a model or composite layer."""
    for layer in children_of(parent):
        yield f"{prefix}{layer.name}"
        yield from paths_in(layer, f"{prefix}{layer.name}/")


def by_name(model: keras.Model, path: str) -> str:
    """Returns a path with the name of a layer of `model` for its attribute.

    Only at the beginning of the path; what is no attribute stays as it is.
    """
    first, *rest = path.split("/")
    if any(layer.name == first for layer in model.layers):
        return path
    held: Any = getattr(model, first, None)
    while isinstance(held, (list, tuple)) and rest and _is_place(rest[0], held):
        held = held[int(rest.pop(0))]
    for layer in model.layers:
        if layer is held:
            return "/".join([layer.name, *rest])
    return path


def _step(place, part, model, path):
    if isinstance(place, (list, tuple)):
        if _is_place(part, place):
            return place[int(part)]
        known = [str(index) for index in range(len(place))]
    else:
        inner = {layer.name: layer for layer in children_of(place)}
        if part in inner:
            return inner[part]
        held = getattr(place, part, None)
        if isinstance(held, (keras.layers.Layer, list, tuple)):
            return held
        known = list(inner)
    where = f"'{model.name}'" if place is model else "there"
    raise ValueError(
        f"'{model.name}' has no layer '{path}': {where} is no '{part}'."
        f"{did_you_mean(part, known)} Expected one of {known}."
    )


def _is_place(part, held):
    return part.isdecimal() and int(part) < len(held)
