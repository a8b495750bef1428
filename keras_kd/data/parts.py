# SPDX-License-Identifier: Apache-2.0
"""Parts of a split: its labels, its weights, its first inputs, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.type_aliases import Split


def check_one_size(batches: Sequence[Any], what: str) -> None:
    """Raises if examples of a batch have another size than of the others."""
    sizes = sorted({tuple(batch.shape[1:]) for batch in batches})
    if len(sizes) > 1:
        raise ValueError(
            f"The {what} must have one size in all batches. Received: examples "
            f"of the sizes {', '.join(map(str, sizes[:3]))}. Pad them to one "
            "length, as by padded_batch(n, padded_shapes=...), with the label "
            "-1 or the weight 0 where there is none."
        )


def labels_of(split: Split) -> Any:
    """Returns all labels of a split as one array, or a dict of them."""
    if isinstance(split, tf.data.Dataset):
        batches = [batch[1] for batch in split.as_numpy_iterator()]
        return tf.nest.map_structure(_joined, *batches)
    if isinstance(split[1], Mapping):
        return {name: np.asarray(part) for name, part in split[1].items()}
    return np.asarray(split[1])


def weights_of(split: Split) -> Any:
    """Returns all sample weights of a split, as `labels_of`, if it has any."""
    if not isinstance(split, tf.data.Dataset):
        return labels_of((None, split[2])) if len(split) > 2 else None
    if len(split.element_spec) < 3:
        return None
    return labels_of(split.map(lambda x, y, weight: (x, weight)))


def take(split: Any, count: int) -> Any:
    """Returns the inputs of the first `count` examples as arrays."""
    if isinstance(split, tf.data.Dataset):
        inputs = split.map(lambda x, *_: x).unbatch().batch(count)
        return next(inputs.as_numpy_iterator())
    return tf.nest.map_structure(lambda a: np.asarray(a[:count]), split[0])


def _joined(*labels):
    check_one_size(labels, "labels")
    return np.concatenate(labels)
