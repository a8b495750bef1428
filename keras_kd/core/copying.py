# SPDX-License-Identifier: Apache-2.0
"""Copies: a twin of a model, with weights of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import keras


def copy_of(model: keras.Model) -> keras.Model:
    """Returns an uncompiled copy of a built model, its whole state included.

    Goes through the model's config, which also covers what
    `keras.models.clone_model` refuses (Lambda layers) and custom layers that
    were never registered.

    Args:
        model: A built Sequential, functional or subclassed model. Custom
            classes need a `get_config` that matches their constructor.

    Raises:
        ValueError: If the model is not built or cannot be copied.
    """
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} must be built. Received a model without "
            "weights. Call it on a batch, or give it a keras.Input, first."
        )
    try:
        twin = by_config(model)
        twin.set_weights(model.get_weights())
        copy_state(model, twin)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"Model {model.name!r} cannot be copied through its config. "
            "Expected each custom layer and model to have a `get_config` "
            "that matches its constructor, and a subclassed model to be "
            f"built by its input shape. Received: {error}"
        ) from error
    return twin


def copy_state(source: keras.Layer, target: keras.Layer) -> None:
    """Brings a layer's state beside its weights, which are there already.

    An adapted Normalization computes from what it made of its weights, and a
    lookup table is no weight.

    Args:
        source: A layer or model.
        target: A copy of it.
    """
    both = layers_with_state(source), layers_with_state(target)
    for layer, copy in zip(*both, strict=True):
        if hasattr(layer, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                copy.load_assets(folder)
        if isinstance(layer, keras.layers.Normalization):
            copy.finalize_state()


def layers_with_state(layer: keras.Layer) -> list[keras.Layer]:
    """Returns what is in a layer or model and keeps more than its weights."""
    return [
        inner
        for inner in layer._flatten_layers()
        if hasattr(inner, "save_assets")
        or isinstance(inner, keras.layers.Normalization)
    ]


def custom_classes(model: keras.Model) -> dict[str, type]:
    """Returns what a model has in it that is not of Keras, by class name."""
    return {
        type(layer).__name__: type(layer)
        for layer in model._flatten_layers()  # no public walk goes as deep
        if not type(layer).__module__.startswith("keras.")
    }


def by_config(
    model: keras.Model, edit: Callable[[dict], None] | None = None
) -> keras.Model:
    """Returns an uncompiled model of new weights, by a config to be edited."""
    with keras.saving.custom_object_scope(custom_classes(model)):
        config = keras.saving.serialize_keras_object(model)
        config.pop("compile_config", None)
        if edit is not None:
            edit(config)
        # Safe: the code comes from this process, not from a file.
        return keras.saving.deserialize_keras_object(config, safe_mode=False)
