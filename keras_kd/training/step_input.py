# SPDX-License-Identifier: Apache-2.0
"""What a training step is fed, and whether it has to wait for it."""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

import keras
import tensorflow as tf

from keras_kd.data.splits import Data
from keras_kd.data.splits import as_dataset
from keras_kd.training.step_race import ROUNDS
from keras_kd.training.step_race import Setting
from keras_kd.training.step_race import StepRace

BATCHES_KEPT = 4


def first_rows(arrays: Any, batch_size: int) -> Any:
    """Returns as much of arrays, in any structure, as is measured with.

    With as small a last batch as all of them have: a step is traced anew for
    batches whose size varies.
    """
    count = len(tf.nest.flatten(arrays)[0])
    rows = BATCHES_KEPT * batch_size + count % batch_size
    return tf.nest.map_structure(lambda array: array[:rows], arrays)


def batches_of(data: Any, batch_size: int) -> tuple[tf.data.Dataset, bool]:
    """Returns a data set, and whether the data came as one.

    Args:
        data: What `fit` is given, or `Data`. Of arrays only the first rows
            are taken, so that no random state is touched.
        batch_size: Samples in a batch, for arrays.
    """
    if isinstance(data, Data):
        data = data.train
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        return as_dataset(data), True
    arrays = tuple(data) if isinstance(data, (tuple, list)) else (data,)
    return as_dataset(first_rows(arrays, batch_size), batch_size), False


def first_batches(dataset: tf.data.Dataset, timed: int) -> tuple[list, float]:
    """Returns a few batches of one size, and the seconds a batch takes.

    Args:
        dataset: Where they come from, in one pass.
        timed: Batches to take the time of. The first one does not count: it
            waits for what an epoch does once, such as filling a buffer.

    Raises:
        ValueError: If there is no batch.
    """
    kept, waits = [], []
    began = time.perf_counter()
    for batch in itertools.islice(dataset, max(timed + 1, BATCHES_KEPT)):
        waits.append(time.perf_counter() - began)
        is_whole = not kept or rows_of(batch) == rows_of(kept[0])
        if is_whole and len(kept) < BATCHES_KEPT:
            kept.append(batch)
        began = time.perf_counter()
    if not kept:
        raise ValueError(
            "`data` must hold at least one batch. Received: an empty data set."
        )
    return kept, statistics.fmean(waits[1:] or waits)


def rows_of(batch: Any) -> int:
    """Returns the number of samples in a batch."""
    return int(tf.nest.flatten(batch)[0].shape[0])


def prefetches(dataset: tf.data.Dataset) -> bool:
    """Returns whether a data set ends in `prefetch`."""
    while type(dataset).__name__ == "_OptionsDataset":
        dataset = dataset._input_dataset
    return type(dataset).__name__ == "_PrefetchDataset"


def prefetch_speedup(
    race: StepRace, setting: Setting, dataset: tf.data.Dataset, steps: int
) -> float:
    """Returns how many times as fast training is with `prefetch` added.

    TensorFlow itself puts one behind most data sets, so often it is 1.
    """
    distributed = race.model.distribute_strategy.experimental_distribute_dataset
    repeated = dataset.repeat()
    plain = iter(distributed(repeated))
    ahead = iter(distributed(repeated.prefetch(2)))
    for iterator in (plain, ahead):
        race.seconds(setting, 1, iterator)
    ratios = []
    for number in range(ROUNDS):
        order = (plain, ahead)[:: -1 if number % 2 else 1]
        took = [race.seconds(setting, steps, iterator) for iterator in order]
        without, with_it = took[:: -1 if number % 2 else 1]
        ratios.append(without / with_it)
    return statistics.median(ratios)
