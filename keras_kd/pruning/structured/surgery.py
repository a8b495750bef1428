# SPDX-License-Identifier: Apache-2.0
"""Surgery: builds the smaller model and fills it with what is kept."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from keras_kd.core.copying import by_config
from keras_kd.core.copying import copy_state
from keras_kd.pruning.structured.channels import ChannelGraph
from keras_kd.pruning.structured.kinds import SIZES
from keras_kd.pruning.structured.kinds import WEIGHTS
from keras_kd.pruning.structured.trace import graph_of
from keras_kd.pruning.structured.trace import has_graph


def cut(
    model: keras.Model, graph: ChannelGraph, kept: np.ndarray
) -> keras.Model:
    """Returns a copy of a model without some of its channels.

    Layers keep their class, name, settings and dtype policy; weights are
    copied but for the cut rows and columns. The copy is not compiled.

    `graph` is what `trace` found in the model, and `kept` says for each of
    its channel numbers whether it stays.
    """

    def mask(ids):
        return None if ids is None else kept[graph.roots(ids)]

    masks = {
        k: (mask(t.ids_in), mask(t.ids_out)) for k, t in graph.layers.items()
    }
    smaller = by_config(model, lambda config: _resize(config, model, masks))
    _fill(smaller, model, masks)
    return smaller


def _resize(config, model, masks):
    """Edits the sizes in a model's config, and those of models in it."""
    # Both speak of the old shapes; what is called is built anew.
    config.pop("build_config", None)
    config.pop("compile_config", None)
    config["config"].pop("build_input_shape", None)
    parts = {part.name: part for part in graph_of(model).operations}
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
    parts = {part.name: part for part in graph_of(new).operations}
    for layer in graph_of(old).operations:
        if not isinstance(layer, layers.Layer):
            continue
        smaller = parts[layer.name]
        if id(layer) in masks and type(layer) in WEIGHTS:
            _fill_layer(smaller, layer, *masks[id(layer)])
        elif has_graph(layer):
            _fill(smaller, layer, masks)
        else:
            smaller.set_weights(layer.get_weights())
            copy_state(layer, smaller)


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
