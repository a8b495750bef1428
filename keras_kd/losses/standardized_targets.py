# SPDX-License-Identifier: Apache-2.0
"""Standardized targets: the student matches the teacher's z-scores."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.soft_targets import SoftTargets
from keras_kd.losses.soft_targets import soft_targets

_EPSILON = 1e-7


def standardize(logits):
    """Returns each example's logits with mean 0 and standard deviation 1.

    Logits that are all equal become 0.
    """
    logits = ops.cast(logits, "float32")
    centered = logits - ops.mean(logits, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
    # Under the root, whose gradient at 0 is NaN in XLA.
    return centered / ops.sqrt(variance + _EPSILON**2)


def standardized_targets(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: ScalarLike = 2.0,
) -> Tensor:
    """Returns the soft-target loss of standardised logits.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`.
        student_logits: Float tensor of the same shape.
        temperature: Softening T > 0, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`: one value per example, in
        nats times T^2.

    Example:

    ```python
    kd.losses.standardized_targets([[9.0, 1.0, 0.0]], [[2.0, 1.0, 0.0]])
    ```
    """
    return soft_targets(
        standardize(teacher_logits), standardize(student_logits), temperature
    )


@keras.saving.register_keras_serializable(package="keras_kd")
class StandardizedTargets(DistillationLoss):
    """The student matches the teacher's z-scores.

    Idea: a small student need not reach the scale of the teacher's logits. Each
    example's logits are brought to mean 0 and standard deviation 1, in both
    networks, before another loss compares them.

        z' = (z - mean(z)) / std(z),  over the classes of an example
        loss = inner loss of z'_teacher and z'_student

    Shapes: as the inner loss; for `SoftTargets` logits `(batch, ..., classes)`
    -> values `(batch, ...)`.
    Use it: with a teacher much more confident than the student can be; around
    `SoftTargets`, `Decoupled` or any other loss on logits.
    Do not: when the student's probabilities themselves are used (thresholds,
    calibration), since their scale is left to the label loss; nor with two
    classes, where z' says only which is larger. A last layer that starts at
    zero makes the first gradients huge: 1 / std.
    Suggested: T = 2 with a large weight: the authors use 9 beside a label loss
    weighed 0.1, that is alpha = 0.99.
    Paper: Sun et al. 2024, https://arxiv.org/abs/2403.01427

    As in the paper, std is over all C classes; the authors' code divides by
    C - 1. Their T is T * sqrt(C / (C - 1)) here, and their weight
    9 * (C - 1) / C: 2.11 and 8.1 at 10 classes, 2.01 and 8.9 at 100.

    Args:
        loss: The inner loss. Defaults to `SoftTargets(2.0)`.
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`. Except for the name they default to those of
            the inner loss, which are otherwise not used.

    Attributes:
        temperature: That of the inner loss, if it has one.

    Example:

    ```python
    kd.losses.StandardizedTargets()
    kd.losses.StandardizedTargets(kd.losses.Decoupled(temperature=2.0))
    ```
    """

    logits = True

    def __init__(self, loss: DistillationLoss | None = None, **kwargs):
        loss = SoftTargets(2.0) if loss is None else loss
        if not isinstance(loss, DistillationLoss) or not loss.logits:
            raise ValueError(
                "`loss` must be a keras_kd loss on logits, such as "
                f"SoftTargets(2.0). Received: loss={loss!r}"
            )
        for argument in ("teacher", "student", "weight", "projector"):
            kwargs.setdefault(argument, getattr(loss, argument))
        super().__init__(**kwargs)
        self.loss = loss
        self.label_aware = loss.label_aware

    @property
    def temperature(self) -> float:
        return self.loss.temperature

    @temperature.setter
    def temperature(self, value):
        self.loss.temperature = value

    def call(self, y_true, y_pred):
        if self.label_aware:
            teacher, labels = y_true
            y_true = standardize(teacher), labels
        else:
            y_true = standardize(y_true)
        return self.loss.call(y_true, standardize(y_pred))
