# SPDX-License-Identifier: Apache-2.0
"""optimizer_for(): a new optimizer for each training, from what was asked."""

from __future__ import annotations

import keras

from keras_kd.core.type_aliases import LearningRateLike
from keras_kd.core.type_aliases import OptimizerLike


def check_optimizer(optimizer: OptimizerLike | None) -> None:
    """Raises a `ValueError` unless it is what `optimizer_for` takes."""
    if isinstance(optimizer, str):
        keras.optimizers.get(optimizer)
        return
    is_function = callable(optimizer) and not isinstance(optimizer, type)
    is_optimizer = isinstance(optimizer, keras.optimizers.Optimizer)
    if optimizer is not None and not (is_function or is_optimizer):
        raise ValueError(
            "`optimizer` must be a keras.optimizers.Optimizer, its name, or a "
            "function of the number of training steps that returns one. "
            f"Received: {optimizer!r}"
        )


def optimizer_for(
    optimizer: OptimizerLike | None, learning_rate: LearningRateLike, steps: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer, with nothing of a training before.

    Args:
        optimizer: An optimizer, which is copied; a name, which is given the
            learning rate; or a function of the number of steps that returns
            one. `None` for Adam.
        learning_rate: The peak of a cosine decay to zero over all steps, or a
            schedule of Keras. Not for an optimizer that brings its own.
        steps: Of the whole training.

    Raises:
        ValueError: If the function returns no optimizer.

    Example:

    ```python
    from keras_kd.training.optimizers import optimizer_for

    optimizer_for(lambda steps: keras.optimizers.SGD(0.1), 1e-3, steps=100)
    ```
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return type(optimizer).from_config(optimizer.get_config())
    if optimizer is None or isinstance(optimizer, str):
        if isinstance(learning_rate, (int, float)):
            learning_rate = keras.optimizers.schedules.CosineDecay(
                learning_rate, steps
            )
        kind = type(keras.optimizers.get(optimizer or "adam"))
        return kind(learning_rate)
    made = optimizer(steps)
    if not isinstance(made, keras.optimizers.Optimizer):
        raise ValueError(
            "`optimizer` must return a keras.optimizers.Optimizer. "
            f"Received: {made!r}"
        )
    return made
