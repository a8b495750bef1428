# SPDX-License-Identifier: Apache-2.0
"""draw(): random training inputs, from which int8 learns its ranges."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.data.batches import length
from keras_kd.data.reading import parts_of
from keras_kd.data.splits import as_dataset
from keras_kd.data.splits import split_of

SAMPLES = 256


def draw(data: Any, samples: int = SAMPLES, seed: int = 0) -> Any:
    """Returns inputs drawn at random, see `draw_examples`.

    Example:

    ```python
    from keras_kd.quantization.representative import draw

    draw((x, y), samples=100).shape[0]
    ```
    """
    return draw_examples(data, samples, seed)[0]


def draw_examples(
    data: Any, samples: int = SAMPLES, seed: int = 0
) -> tuple[Any, Any]:
    """Returns inputs and labels drawn at random, each example at most once.

    The first rows of a file are no sample of it: often they are sorted.

    Args:
        data: `Data` (its training split is drawn from), a pair `(x, y)`,
            bare inputs (an array, or a dict of them), or a batched
            `tf.data.Dataset`, which is read once, as a whole.
        samples: How many. All of them, in random order, where there are
            fewer.
        seed: The same seed draws the same examples of the same data.

    Raises:
        ValueError: If `samples` is not positive, or `data` is empty.

    Returns:
        `(x, y)`; `y` is `None` where the data has no labels.

    Example:

    ```python
    from keras_kd.quantization.representative import draw_examples

    inputs, labels = draw_examples((x, y), samples=100)
    ```
    """
    if samples < 1:
        raise ValueError(
            f"`samples` must be at least 1. Received: samples={samples}"
        )
    split = split_of(data, "train")
    rng = np.random.default_rng(seed)
    if isinstance(split, tf.data.Dataset):
        return _drawn_from_stream(as_dataset(split), samples, rng)
    x, y = _without_weights(parts_of(split, "calibration data"))
    chosen = rng.permutation(length(x))[:samples]
    return _map(lambda array: np.asarray(array)[chosen], (x, y))


def _map(function, *parts):
    return keras.tree.map_structure(function, *parts, none_is_leaf=False)


def _without_weights(batch):
    if isinstance(batch, (tuple, list)):
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def _drawn_from_stream(dataset, samples, rng):
    # Algorithm R: every example of a stream of unknown length gets the same
    # chance, and only the sample is held.
    kept, seen = [], 0
    for batch in dataset:
        pair = _map(np.asarray, _without_weights(batch))
        for row in range(len(keras.tree.flatten(pair)[0])):
            place = seen if seen < samples else int(rng.integers(seen + 1))
            seen += 1
            if place < samples:
                example = _map(lambda a, r=row: a[r], pair)
                kept[place : place + 1] = [example]
    if not kept:
        raise ValueError(
            "Calibration data must hold at least one example. Received an "
            "empty dataset."
        )
    return _map(lambda *rows: np.stack(rows), *kept)
