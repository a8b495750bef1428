# SPDX-License-Identifier: Apache-2.0
"""Names of layers, without the numbers that Keras counts through a process.

The second model built by one function is not `dense` but `dense_1`. To know
it for the same architecture its layers are named by their place, so that
*which* layer another one reads still counts.
"""

from __future__ import annotations

import re
from typing import Any

import keras


def places(model: keras.Model, chosen_too: bool = False) -> dict[str, str]:
    """Returns `{name: "#place"}` of a model's layers and operations.

    Args:
        model: A model.
        chosen_too: Whether names that were chosen are replaced as well, or
            only those that Keras made from the class.
    """
    things = list(model._flatten_layers())
    for layer in list(things):
        things += getattr(layer, "operations", [])
    kinds = {thing.name: type(thing).__name__ for thing in things}
    return {
        name: f"#{place}"
        for place, (name, kind) in enumerate(kinds.items())
        if chosen_too or re.fullmatch(rf"{_snake_case(kind)}(_\d+)?", name)
    }


def renamed(value: Any, names: dict[str, str]) -> Any:
    """Returns JSON values with every name in them replaced."""
    if isinstance(value, dict):
        return {key: renamed(part, names) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [renamed(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


def _snake_case(name):
    """As Keras makes names of classes."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
