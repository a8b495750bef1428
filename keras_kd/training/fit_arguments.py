# SPDX-License-Identifier: Apache-2.0
"""What `fit` is given of a training split, and how many steps that is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.data.batches import length
from keras_kd.data.parts import labels_of
from keras_kd.data.reading import strings_for_keras
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import with_known_count
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.cache import TeacherCache
from keras_kd.training.augmenting import augmented


def fit_arguments(
    split: Any,
    batch_size: int,
    seed: int,
    targets: Any = None,
    cache: TeacherCache | None = None,
    labelled_only: bool = False,
    augment: Callable | None = None,
) -> dict[str, Any]:
    """Returns the arguments of `fit` that bring a training split.

    Args:
        split: A split of `Data`.
        batch_size: Examples in a step, for arrays.
        seed: Of the shuffling, where the data set does it.
        targets: See `train`.
        cache: See `train`.
        labelled_only: Whether examples without any label, at any output, are
            left out, and the others repeated to as many steps.
        augment: See `augmented`; for arrays.
    """
    if cache is not None:
        split = cache.attach(split, batch_size, shuffle=True, seed=seed)
    if isinstance(split, tf.data.Dataset):
        split = with_known_count(split)
    if labelled_only:
        # Positions and units without a label are passed over in the loss,
        # and so are outputs.
        parts = tf.nest.flatten(labels_of(split))
        has_label = np.any([_is_known(part) for part in parts], axis=0)
        if not has_label.all():
            return _labelled_batches(
                split, has_label, batch_size, seed, augment
            )
    if augment is not None:
        count = len(tf.nest.flatten(split)[0])
        examples = tf.data.Dataset.from_tensor_slices(tuple(split))
        examples = augmented(examples.shuffle(count, seed), augment, seed)
        batches = examples.batch(batch_size).prefetch(tf.data.AUTOTUNE)
        return {"x": batches, "shuffle": False}
    if isinstance(split, tf.data.Dataset):
        return {"x": split, "shuffle": False}  # Keras would warn it cannot
    x, y, *weight = split
    if targets is not None:
        x = attach_targets(x, {"output": targets})
    weights = {"sample_weight": weight[0]} if weight else {}
    x = strings_for_keras(x)
    return {"x": x, "y": y, **weights, "batch_size": batch_size}


def steps_per_epoch(arguments: dict[str, Any]) -> int:
    """Returns the steps of an epoch with these arguments of `fit`."""
    if "steps_per_epoch" in arguments:
        return arguments["steps_per_epoch"]
    if isinstance(arguments["x"], tf.data.Dataset):
        return int(arguments["x"].cardinality())
    return math.ceil(length(arguments["y"]) / arguments["batch_size"])


def _is_known(labels):
    """Whether each example has a label that is not -1."""
    return (labels != UNLABELLED).reshape(len(labels), -1).any(axis=1)


def _any_label(labels):
    parts = tf.nest.flatten(labels)
    return tf.reduce_any([tf.reduce_any(p != UNLABELLED) for p in parts])


def _labelled_batches(split, has_label, batch_size, seed, augment):
    """Only the labelled examples, repeated to as many steps an epoch."""
    keep = np.flatnonzero(has_label)
    if not len(keep):
        raise ValueError(
            "No training example has a label, so there is no control to "
            "train. Pass control=False."
        )
    if isinstance(split, tf.data.Dataset):
        steps = int(split.cardinality())
        examples = split.unbatch().filter(lambda x, y, *_: _any_label(y))
        batch_size = math.ceil(len(has_label) / steps)
    else:
        steps = math.ceil(len(has_label) / batch_size)
        examples = tf.data.Dataset.from_tensor_slices(
            tf.nest.map_structure(lambda a: np.asarray(a)[keep], tuple(split))
        )
    examples = examples.shuffle(len(keep), seed=seed).repeat()
    if augment is not None:
        examples = augmented(examples, augment, seed)
    batches = examples.batch(batch_size)
    return {
        "x": batches.prefetch(tf.data.AUTOTUNE),
        "steps_per_epoch": steps,
        "shuffle": False,  # done above; Keras would warn that it cannot
    }
