# SPDX-License-Identifier: Apache-2.0
"""check_loss: what every distillation loss promises, as running checks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_kd import losses
from keras_kd.core.type_aliases import OneLossLike
from keras_kd.testing import contract
from keras_kd.testing import loss_training
from keras_kd.testing import loss_values


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


def check_loss(
    loss: OneLossLike,
    *,
    teacher_shape: tuple = (6, 5),
    student_shape: tuple | None = None,
    reference: Callable | None = None,
    labels: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    sample: Callable | None = None,
    zero_at_equal: bool = True,
    nonnegative: bool = True,
    relational: bool = False,
    temperature_squared: bool = True,
) -> None:
    """Checks everything that `Distiller` and users rely on in a loss.

    The example in `keras_kd.testing` shows it on a new loss. `loss` itself is
    not changed. Takes about a second.

    Args:
        loss: A `DistillationLoss`, or what `keras_kd.losses.get` accepts.
        teacher_shape: Shape of the teacher's tap, batch included, of at
            least two examples: `(6, 5)` class scores, `(4, 8, 8, 3)` maps,
            `(4, 7, 5)` sequences.
        student_shape: Shape of the student's tap as the loss sees it, that
            is after a projector. Defaults to `teacher_shape`.
        reference: The formula again, in NumPy float64, written from the
            paper: `reference(teacher, student)`, or with the labels as a
            third argument for a label-aware loss, returns the values by
            example. Nothing else can tell a wrong formula.
        labels: What a label-aware loss gets as label, shape `(batch, ...)`.
            Defaults to class ids below `teacher_shape[-1]`.
        mask: Booleans `(batch, positions)`, for a loss on sequences: which
            positions count.
        sample: Draws inputs, `sample(generator, shape)`; for a loss that
            takes special tensors only, such as attention maps. Defaults to
            a normal distribution.
        zero_at_equal: Whether it is 0 if the student equals the teacher.
        nonnegative: Whether it is never below 0.
        relational: Whether an example's value depends on the others in the
            batch (as in relational or contrastive losses).
        temperature_squared: Whether the gradient keeps its scale at high
            temperatures, which is what Hinton's factor T^2 is for. Looked at
            only where a loss on logits has a `temperature`.

    Raises:
        ContractError: If a promise is broken. The message names it, what was
            expected and received, and how to repair it.
        ValueError: If the arguments do not fit together.

    Example:

    ```python
    kd.testing.check_loss(kd.losses.FeatureMatching(), teacher_shape=(4, 8))
    ```
    """
    loss = losses.get(loss)
    student_shape = tuple(student_shape or teacher_shape)
    teacher_shape = tuple(teacher_shape)
    if len({teacher_shape[0], student_shape[0], max(teacher_shape[0], 2)}) > 1:
        raise ValueError(
            "Both shapes must have one batch size, of at least 2. Received: "
            f"teacher_shape={teacher_shape}, student_shape={student_shape}"
        )
    if zero_at_equal and teacher_shape != student_shape:
        raise ValueError(
            "A student of another shape cannot equal the teacher: pass "
            f"zero_at_equal=False. Received: teacher_shape={teacher_shape}, "
            f"student_shape={student_shape}"
        )
    if labels is None and loss.label_aware:
        labels = np.arange(teacher_shape[0]) % teacher_shape[-1]
    case = LossCase(
        loss=loss,
        shapes=(teacher_shape, student_shape),
        sample=sample,
        labels=labels,
        mask=mask,
        reference=reference,
        zero_at_equal=zero_at_equal,
        nonnegative=nonnegative,
        relational=relational,
        temperature_squared=temperature_squared,
    )
    for check in (*loss_values.CHECKS, *loss_training.CHECKS):
        check(case)
