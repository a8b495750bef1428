# SPDX-License-Identifier: Apache-2.0
"""prune_channels(): the stage that returns a model with fewer channels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_kd.core.records import StageRecord
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.pruning.selection import check_lists
from keras_kd.pruning.structured import groups
from keras_kd.pruning.structured.scores import CRITERIA
from keras_kd.pruning.structured.scores import mean_scores
from keras_kd.pruning.structured.surgery import cut
from keras_kd.pruning.structured.trace import trace


def prune_channels(
    model: keras.Model,
    ratio: float | Mapping[str, float] = 0.5,
    data: Data | Split | Arrays | None = None,
    by: str = "magnitude",
    include: Sequence[str | type] | None = None,
    exclude: Sequence[str | type] = (),
    multiple_of: int = 1,
) -> tuple[keras.Model, StageRecord]:
    """Removes whole channels, which gives a smaller ordinary model.

    A channel (a unit of a `Dense`, a filter of a convolution) goes together
    with all that reads it: batch norms, the inputs of later layers, the
    columns behind a `Flatten`. Layers tied by an `Add` lose the same
    channels. Nothing is masked, so the model is smaller and faster in every
    runtime. It is not trained: unless the channels were dead it answers
    worse than before, so distil it from the model it came from (see the
    example). The model given is not touched.

    The model's outputs are never cut. A layer that mixes or reorders
    channels (attention, recurrent, layer norm, grouped convolution, a layer
    of your own) is refused where channels to be removed reach it; the error
    names it and what to exclude.

    Reference: [Li et al., 2017](https://arxiv.org/abs/1608.08710) (by
    magnitude), [Liu et al., 2017](https://arxiv.org/abs/1708.06519) (by
    scale), [Fang et al., 2023](https://arxiv.org/abs/2301.12900) (groups of
    layers that depend on each other).

    Args:
        model: A built Functional or Sequential model, channels last. Nested
            models and shared layers may be in it.
        ratio: Share of channels to remove from each group of layers, in
            (0, 1), rounded down; or a dict of layer name to ratio, for
            those layers only. At least one channel stays.
        data: For `by="activation"`: a `Data` (its training split), arrays
            `(x, y)`, or a batched `tf.data.Dataset`.
        by: What tells which channels matter least. `"magnitude"`: the L2
            norm of their filters. `"scale"`: the scale of their batch norms.
            `"activation"`: their mean absolute value on `data`, where the
            next layers read it.
        include: The only layers to prune: names, also of nested models that
            hold them, or classes such as `keras.layers.Dense`. What is tied
            to them is pruned with them.
        exclude: Layers to leave whole, likewise; so is what is tied to them.
        multiple_of: The number of channels that stay in a group is rounded
            up to a multiple of this (8 suits most hardware).

    Returns:
        The smaller model, uncompiled, and a record with `parameters` and
        `channels` before and after, in all and per layer.

    Raises:
        ValueError: If an argument is out of range, the model has no graph or
            has its channels first, a layer that is not supported is in the
            way, or nothing can be pruned.

    Example:

    ```python
    smaller, record = kd.prune_channels(model, ratio=0.5)
    recovery = kd.Distiller(teacher=model, student=smaller)
    recovery.compile("adam", cross_entropy)
    recovery.fit(x, y, epochs=2, verbose=0)
    ```
    """
    _check(ratio, by, include, exclude, multiple_of)
    began = time.perf_counter()
    graph = trace(model)
    exclude = groups.names_of(exclude or (), graph)
    if include is not None:
        include = groups.names_of(include, graph, exclude)
    chosen = groups.choose(
        groups.groups_of(graph), _paths(model), ratio, include, exclude
    )
    scores = mean_scores(graph, CRITERIA[by](graph, model, data))
    unscored = [g for g in chosen if np.isnan(scores[g.channels]).any()]
    if unscored:
        raise ValueError(
            f"by={by!r} has no score for the channels of "
            f"{[list(group.layers) for group in unscored]}. Prune by "
            "'magnitude', or leave them whole with "
            f"exclude={groups.paths_of(unscored, exclude)}."
        )
    kept = np.ones(graph.size, bool)
    for group in chosen:
        order = np.argsort(scores[group.channels], kind="stable")
        removed = len(order) - group.kept(multiple_of)
        kept[group.channels[order[:removed]]] = False
    smaller = cut(model, graph, kept)
    return smaller, StageRecord(
        "prune",
        "pruned_channels",
        settings={
            "ratio": dict(ratio) if isinstance(ratio, Mapping) else ratio,
            "by": by,
            "include": include,
            "exclude": exclude,
            "multiple_of": multiple_of,
        },
        metrics=_metrics(model, smaller, graph, kept),
        seconds=time.perf_counter() - began,
    )


def _metrics(model, smaller, graph, kept):
    layers = {
        traced.path: {
            "channels_before": len(traced.ids_out),
            "channels": int(kept[graph.roots(traced.ids_out)].sum()),
        }
        for traced in graph.producers
    }
    counts = ("channels_before", "channels")
    return {
        "parameters_before": int(model.count_params()),
        "parameters": int(smaller.count_params()),
        **{c: sum(row[c] for row in layers.values()) for c in counts},
        "layers": layers,
    }


def _paths(model, prefix=""):
    paths = []
    for layer in model.layers:
        paths.append(prefix + layer.name)
        if isinstance(layer, keras.Model):
            paths.extend(_paths(layer, f"{prefix}{layer.name}/"))
    return paths


def _check(ratio, by, include, exclude, multiple_of):
    ratios = ratio.values() if isinstance(ratio, Mapping) else [ratio]
    if not ratios or not all(0.0 < share < 1.0 for share in ratios):
        raise ValueError(
            "`ratio` is the share of channels to remove and must lie between "
            "0 and 1, both excluded, or be a dict of layer name to such a "
            f"number. Received: {ratio}"
        )
    if by not in CRITERIA:
        raise ValueError(
            f"`by` must be one of {sorted(CRITERIA)}. Received: {by!r}"
        )
    if multiple_of < 1:
        raise ValueError(
            f"`multiple_of` must be at least 1. Received: {multiple_of}"
        )
    check_lists(include=include, exclude=exclude)
