# SPDX-License-Identifier: Apache-2.0
"""Surgery: builds the smaller model and fills it with what is kept."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from keras_kd.pruning.structured.channels import ChannelGraph
from keras_kd.pruning.structured.kinds import SIZES
from keras_kd.pruning.structured.kinds import WEIGHTS
from keras_kd.pruning.structured.trace import has_graph


def cut(
    model: keras.Model, graph: ChannelGraph, kept: np.ndarray
) -> keras.Model:
    """Returns a copy of a model without some of its channels.

    Layers keep their class, name, settings and dtype policy; weights are
    copied but for the cut rows and columns. The copy is not compiled.

    Args:
        model: The model that was traced. It is not touched.
        graph: What `trace` found.
        kept: For each channel number of the graph, whether it stays.
    """
    masks = {
        key: (_mask(graph, kept, t.ids_in), _mask(graph, kept, t.ids_out))
        for key, t in graph.layers.items()
    }
    custom = {
        type(layer).__name__: type(layer)
        for layer in model._flatten_layers()  # no public walk goes as deep
        if not type(layer).__module__.startswith("keras.")
    }
    with keras.saving.custom_object_scope(custom):
        config = keras.saving.serialize_keras_object(model)
        _resize(config, model, masks)
        # Safe: the code comes from this process, not from a file.
        smaller = keras.saving.deserialize_keras_object(config, safe_mode=False)
    _fill(smaller, model, masks)
    return smaller


def _mask(graph, kept, ids):
    return None if ids is None else kept[graph.roots(ids)]


def _resize(config, model, masks):
    """Edits the sizes in a model's config, and those of models in it."""
    # Both speak of the old shapes; what is called is built anew.
    config.pop("build_config", None)
    config.pop("compile_config", None)
    config["config"].pop("build_input_shape", None)
    parts = {part.name: part for part in _parts(model)}
    for entry in config["config"]["layers"]:
        layer, settings = parts[entry["config"]["name"]], entry["config"]
        if has_graph(layer):
            _resize(entry, layer, masks)
        entry.pop("build_config", None)
        _, mask = masks.get(id(layer), (None, None))
        if mask is None or mask.all():
            continue
        size = int(mask.sum())
        if type(layer) in SIZES:
            settings[SIZES[type(layer)]] = size
        elif isinstance(layer, layers.InputLayer):
            settings["batch_shape"] = (*settings["batch_shape"][:-1], size)
        elif isinstance(layer, layers.Reshape):
            settings["target_shape"] = (*settings["target_shape"][:-1], size)


def _fill(new, old, masks):
    """Copies what is kept of the weights."""
    parts = {part.name: part for part in _parts(new)}
    for layer in _parts(old):
        if not isinstance(layer, keras.layers.Layer):
            continue
        twin = parts[layer.name]
        if id(layer) in masks and type(layer) in WEIGHTS:
            _fill_layer(twin, layer, *masks[id(layer)])
        elif has_graph(layer):
            _fill(twin, layer, masks)
        else:
            twin.set_weights(layer.get_weights())


def _fill_layer(new, old, mask_in, mask_out):
    masks = {"in": mask_in, "out": mask_out}
    for name, axes in WEIGHTS[type(old)].items():
        variable = getattr(old, name, None)
        if variable is None:
            continue
        value = keras.ops.convert_to_numpy(variable)
        for axis, count in axes.items():
            mask = masks.get(count)
            if count == "wide":
                mask = np.repeat(mask_in, old.depth_multiplier)
            # A PReLU may share one slope between all channels.
            if len(mask) == value.shape[axis]:
                value = np.compress(mask, value, axis)
        getattr(new, name).assign(value)


def _parts(model):
    """Returns the layers and operations of a model, by which it is saved."""
    if isinstance(model, keras.Sequential):
        return list(model._functional.operations)
    return list(model.operations)
