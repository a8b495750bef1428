# SPDX-License-Identifier: Apache-2.0
"""Model inputs: what of a batch one of several models has inputs for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def inputs_for(model: keras.Model, x):
    """Returns what of a batch a model takes.

    A task of KerasHub gets what its preprocessor makes of text.

    A teacher and a student may see different parts of a sample, which are
    then told apart by their names in a dict. Keras takes the entries of a
    dict with too many of them in the order of their names, whatever they are.

    Args:
        model: Any model.
        x: A batch. A tensor is returned as it is.

    Raises:
        ValueError: If an input of the model is not in the dict, or parts of
            a batch without names are not as many as the model's inputs.
    """
    preprocessor = preprocessor_of(model)
    if preprocessor is not None and _is_text(x):
        # Outside of a graph it runs in Python and takes lists.
        return preprocessor(x.tolist() if isinstance(x, np.ndarray) else x)
    wanted = getattr(model, "input", None)
    if wanted is None or not isinstance(x, (dict, list, tuple)):
        return x
    if not isinstance(x, dict):
        _check_count(model, wanted, x)
        return x
    if not isinstance(wanted, dict):
        by_name = keras.tree.map_structure(lambda tensor: tensor.name, wanted)
        if not set(keras.tree.flatten(by_name)) <= set(x):
            _check_count(model, wanted, x)
            return x
        return keras.tree.map_structure(x.get, by_name)
    missing = sorted(set(wanted) - set(x))
    if missing:
        raise ValueError(
            f"'{model.name}' has inputs that are not in the data: {missing}. "
            f"Expected a dict with {sorted(wanted)}. Received: {sorted(x)}"
        )
    return {name: x[name] for name in wanted}


def check_takes_all(model: keras.Model, x: Any) -> None:
    """Raises if Keras itself, given `x`, would give a model the wrong parts.

    Args:
        model: A model that is trained or measured by Keras' own `fit`,
            `evaluate` or `predict`.
        x: A batch, what stands for one, or a `tf.data.Dataset` with labels.

    Raises:
        ValueError: If its inputs are a dict with a part of the names in `x`.
    """
    wanted = getattr(model, "input", None)
    x = getattr(x, "element_spec", x)
    x = x[0] if isinstance(x, tuple) else x
    if isinstance(wanted, dict) and isinstance(x, dict):
        if set(wanted) < set(x):
            raise ValueError(
                f"The inputs of '{model.name}' are a dict with "
                f"{sorted(wanted)}, those of the data {sorted(x)}. Keras would "
                "take the first of these in the order of their names, whatever "
                "they are. Make the model's inputs a list, which Keras finds "
                "by name: keras.Model(list(inputs.values()), outputs)."
            )


def preprocessor_of(model: keras.Model) -> Callable | None:
    """Returns what a task of KerasHub makes its inputs of text with.

    `None` for any other model, and for a language model, whose preprocessor
    makes labels, too.
    """
    keras_hub = sys.modules.get("keras_hub")
    if keras_hub is None or not isinstance(model, keras_hub.models.Task):
        return None
    if isinstance(model, keras_hub.models.CausalLM):
        return None
    return model.preprocessor


def _is_text(x):
    dtype = getattr(x, "dtype", None)
    return dtype == "string" or getattr(dtype, "kind", "") in ("U", "S", "O")


def names_of_inputs(model: keras.Model) -> set[str]:
    """Returns the names of a model's inputs; none if it has no graph."""
    if getattr(model, "inputs", None) is None:
        return set()
    if isinstance(model.input, dict):
        return set(model.input)
    return {tensor.name for tensor in keras.tree.flatten(model.input)}


def _check_count(model, wanted, x):
    names = [tensor.name for tensor in keras.tree.flatten(wanted)]
    if len(names) != len(keras.tree.flatten(x)):
        what = sorted(x) if isinstance(x, dict) else f"{len(x)} without names"
        raise ValueError(
            f"Which parts of a batch '{model.name}' takes is not known. "
            f"Expected a dict with its inputs, {names}. Received: {what}. Name "
            "the inputs of both models, keras.Input(..., name='image'), and "
            "give the data as a dict by these names."
        )
