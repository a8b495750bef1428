# SPDX-License-Identifier: Apache-2.0
"""The canonical form of a model: JSON that every build of it shares.

Keras numbers names through a process: the second model built by one function
holds not `dense` and `add` but `dense_1` and `add_1`. So what Keras named is
known by its place, and *which* layer another one reads still counts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import keras


def canonical_form(
    model: keras.Layer,
    config: Any = None,
    chosen_too: bool = False,
    ignore: Collection[str] = (),
) -> Any:
    """Returns JSON values that are equal for every build of one model.

    Args:
        model: A layer or model, nested ones included.
        config: JSON values that speak of its layers by name. `None`: all that
            Keras writes down of the model, but for how it was compiled.
        chosen_too: Whether names that were chosen are replaced as well, or
            only those that Keras made from the class.
        ignore: Keys that do not count.

    Raises:
        NotImplementedError, TypeError, ValueError: If Keras cannot write the
            model down.
    """
    if config is None:
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
    layers, operations = _places(model, chosen_too)
    # Which number an object that is shared was given says nothing.
    ignore = {"shared_object_id", *ignore}

    def named(value, key=None):
        if isinstance(value, dict):
            return {
                str(k): named(v, k) for k, v in value.items() if k not in ignore
            }
        if isinstance(value, (list, tuple)):
            parts = [named(part) for part in value]
            # Keras writes a tensor as [name, call, output].
            if len(parts) == 3 and all(isinstance(p, int) for p in parts[1:]):
                parts[0] = operations.get(str(value[0]), parts[0])
            return parts
        if not isinstance(value, str):
            return value
        # "relu" may be an operation's name, and is an activation elsewhere.
        found = operations.get(value) if key == "name" else None
        return found or layers.get(value, value)

    return named(config)


def _places(model, chosen_too):
    """Returns `{name: "#place"}` of layers, and of `keras.ops` nodes."""
    layers = model._flatten_layers()
    nodes = [
        node
        for layer in layers
        for node in getattr(layer, "operations", [])
        if not isinstance(node, keras.Layer)
    ]
    things = [*layers, *nodes]
    if not chosen_too:  # so that digests on disk stay what they are
        things = {thing.name: thing for thing in things}.values()
    found = {}, {}
    for place, thing in enumerate(things):
        kind = _snake_case(type(thing).__name__)
        is_made = re.fullmatch(rf"{kind}(_\d+)?", thing.name)
        names = found[not isinstance(thing, keras.Layer)]
        if is_made:
            # The first build holds a layer "softmax" where the second holds
            # "softmax_1"; in both, it may be the activation of another one.
            names.setdefault(kind, f"#{place}")
        if is_made or chosen_too:
            names[thing.name] = f"#{place}"
    return found


def _snake_case(name):
    """As Keras makes names of classes."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
