# SPDX-License-Identifier: Apache-2.0
"""augmented(): fresh views of the examples of a data set, in each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def check_augment(augment: Callable | None, split: Any) -> None:
    """Raises a `ValueError` unless a split can be augmented."""
    if augment is None:
        return
    if not callable(augment):
        raise ValueError(
            "`augment` must be a function (x, seed) of one example that "
            f"returns it changed. Received: augment={augment!r}"
        )
    if isinstance(split, tf.data.Dataset):
        raise ValueError(
            "`augment` takes training data in arrays. Received: a "
            "tf.data.Dataset. Augment it by `dataset.map(...)`, which gives "
            "teacher and student the same."
        )


def augmented(
    examples: tf.data.Dataset, augment: Callable, seed: int
) -> tf.data.Dataset:
    """Returns examples whose inputs went through an augmentation.

    Args:
        examples: Yields `(x, ...)`, one example at a time.
        augment: A function `(x, seed)` of one example, in TensorFlow
            operations, whose random choices are drawn from `seed`, an int32
            tensor of shape `(2,)`; as `TeacherCache.build` takes it.
        seed: One seed gives one order of views, other ones in each epoch.

    Example:

    ```python
    import tensorflow as tf

    from keras_kd.training.augmenting import augmented

    def flip(x, seed):
        return tf.image.stateless_random_flip_left_right(x, seed)

    examples = tf.data.Dataset.from_tensor_slices((x, y))
    augmented(examples, flip, seed=0).batch(32)
    ```
    """
    drawn = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    pairs = drawn.map(lambda n: tf.cast(n % 2**31, tf.int32)).batch(2)

    def apply(example, pair):
        x, *rest = example
        return (augment(x, pair), *rest)

    both = tf.data.Dataset.zip((examples, pairs))
    return both.map(apply, num_parallel_calls=tf.data.AUTOTUNE)
