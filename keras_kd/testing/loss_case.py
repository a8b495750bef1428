# SPDX-License-Identifier: Apache-2.0
"""LossCase: a loss under test, with the inputs it is tried on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_kd import losses
from keras_kd.testing import contract


@dataclasses.dataclass(frozen=True)
class LossCase:
    """A loss, inputs to try it on, and what it promises."""

    loss: losses.DistillationLoss
    shapes: tuple[tuple, tuple]
    sample: Callable | None
    labels: np.ndarray | None
    mask: np.ndarray | None
    reference: Callable | None
    zero_at_equal: bool
    nonnegative: bool
    relational: bool
    temperature_squared: bool

    def require(self, holds, *about) -> None:
        """Raises a `ContractError` about the loss unless a promise holds."""
        contract.require(holds, self.loss, *about)

    def require_close(self, *about, **tolerance) -> None:
        """Raises a `ContractError` about the loss unless two arrays agree."""
        contract.require_close(self.loss, *about, **tolerance)

    def draw(self, seed=0, scale=1.0):
        """Returns a teacher's and a student's tap, in float32."""
        generator = np.random.default_rng(seed)
        sample = self.sample or (lambda g, shape: g.normal(size=shape))
        return tuple(
            (scale * np.asarray(sample(generator, shape))).astype("float32")
            for shape in self.shapes
        )

    def fresh(self) -> losses.DistillationLoss:
        """Returns a copy of the loss that averages over the batch."""
        config = self.loss.get_config()
        config["reduction"] = "sum_over_batch_size"
        return type(self.loss).from_config(config)

    def pair(self, teacher, student, rows=slice(None)):
        """Returns `y_true, y_pred` as tensors."""
        target = tf.convert_to_tensor(teacher[rows])
        if self.loss.label_aware:
            target = (
                target,
                tf.convert_to_tensor(np.asarray(self.labels)[rows]),
            )
        return target, tf.convert_to_tensor(student[rows])

    def values(self, teacher, student, rows=slice(None), loss=None):
        """Returns the values by example, as `call` gives them."""
        loss = loss or self.fresh()
        target, student = self.pair(teacher, student, rows)
        cast = functools.partial(tf.cast, dtype=loss.dtype)
        return loss.call(tf.nest.map_structure(cast, target), cast(student))

    def gradients(self, teacher, student, weight=None, loss=None):
        """Returns the loss and its gradients for teacher and student."""
        target, student = self.pair(teacher, student)
        taps = tf.nest.flatten(target)[0], student
        with tf.GradientTape() as tape:
            tape.watch(taps)
            value = (loss or self.fresh())(target, student, weight)
        return value, *tape.gradient(value, taps)
