# SPDX-License-Identifier: Apache-2.0
"""Scores: how much each channel matters, by one of three criteria.

Each layer's scores are divided by their mean, so that layers of different
scale count the same where an `Add` ties their channels.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_kd.core.model_inputs import inputs_for
from keras_kd.core.taps import tap
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import split_of
from keras_kd.pruning.structured.channels import ChannelGraph
from keras_kd.pruning.structured.kinds import WEIGHTS


def magnitude(graph: ChannelGraph, model: keras.Model, data: Any) -> list:
    """Scores a channel by the L2 norm of the filters that make it.

    Reference: [Li et al., 2017](https://arxiv.org/abs/1608.08710), who take
    the L1 norm and notice no difference.
    """
    found = []
    for traced in graph.producers:
        for name, axes in WEIGHTS[type(traced.layer)].items():
            axis = {count: axis for axis, count in axes.items()}.get("out")
            if axis is not None and name != "bias":
                kernel = _array(getattr(traced.layer, name))
                rows = np.moveaxis(kernel, axis, -1)
                rows = rows.reshape(-1, rows.shape[-1])
                found.append((traced.ids_out, np.linalg.norm(rows, axis=0)))
    return found


def scale(graph: ChannelGraph, model: keras.Model, data: Any) -> list:
    """Scores a channel by the scale of the batch norms it goes through.

    Reference: [Liu et al., 2017](https://arxiv.org/abs/1708.06519).
    """
    return [
        (traced.ids_out, np.abs(_array(traced.layer.gamma)))
        for traced in graph.layers.values()
        if isinstance(traced.layer, layers.BatchNormalization)
        and traced.layer.gamma is not None
    ]


def activation(graph: ChannelGraph, model: keras.Model, data: Any) -> list:
    """Scores a channel by its mean size where the next layers read it.

    Reference: [Molchanov et al., 2017](https://arxiv.org/abs/1611.06440),
    criterion "activation".
    """
    tensors = {f.source: f.ids for f in graph.consumed if f.source}
    tapped = tap(model, tensors)
    totals = dict.fromkeys(tensors, 0.0)
    for x in _batches(data):
        outputs = tapped(inputs_for(model, x), training=False)
        for source, tensor in outputs.items():
            size = np.abs(_array(tensor))
            mean = size.reshape(-1, size.shape[-1]).mean(0)
            totals[source] += mean * len(size)
    return [(tensors[source], totals[source]) for source in tensors]


CRITERIA = {f.__name__: f for f in (magnitude, scale, activation)}


def mean_scores(graph: ChannelGraph, scored: list) -> np.ndarray:
    """Returns one score per channel number; NaN where there is none.

    What a criterion gives is pairs: channels and their scores.
    """
    total, count = np.zeros(graph.size), np.zeros(graph.size)
    for ids, scores in scored:
        roots = graph.roots(ids)
        scores = scores / (scores.mean() or 1.0)
        times = np.bincount(roots, minlength=graph.size)
        summed = np.bincount(roots, scores, minlength=graph.size)
        seen = times > 0
        total[seen] += summed[seen] / times[seen]
        count += seen
    return np.divide(
        total, count, out=np.full(graph.size, np.nan), where=count > 0
    )


def _array(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float64")


def _batches(data):
    if data is None:
        raise ValueError(
            "by='activation' scores channels by their activations on real "
            "inputs. Pass "
            "`data`: a Data, arrays (x, y), or a batched tf.data.Dataset."
        )
    for x, *_ in as_dataset(split_of(data, "train")):
        yield x
