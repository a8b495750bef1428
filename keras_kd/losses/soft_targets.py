# SPDX-License-Identifier: Apache-2.0
"""Soft targets: the student matches the teacher's softened probabilities.

Idea: at a temperature T > 1 the teacher's probabilities show which wrong
classes it finds likely, and the student learns from that too. The factor
T^2 keeps the gradient at one scale while T changes.

    p = softmax(z_teacher / T),  q = softmax(z_student / T)
    loss = T^2 * sum_classes p * (log p - log q)

Shapes: logits `(batch, ..., classes)` -> values `(batch, ...)`.
Use it: always first; with unlabelled data it is often all there is to do.
Do not: when the teacher was trained with label smoothing (its wrong-class
probabilities are flat), or when its classes are not the student's.
Suggested: T = 4, alpha = 0.7 to 0.9; T = 1 to 2 with many classes.
Paper: Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.losses.base import DistillationLoss
from keras_kd.scalars import Scalar


def soft_targets(teacher_logits, student_logits, temperature=4.0):
    """Returns `T^2 KL(teacher || student)` of softened probabilities.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`.
        student_logits: Float tensor of the same shape.
        temperature: Softening T > 0, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`: one value per example, in
        nats times T^2, summed over classes.

    Example:

    ```python
    kd.losses.soft_targets([[9.0, 1.0]], [[2.0, 0.0]], temperature=2.0)
    ```
    """
    temperature = ops.cast(temperature, "float32")
    # log_softmax in float32, never log(clipped softmax): a clipped KL stops
    # growing, and its gradient vanishes, where the student is most wrong.
    teacher = ops.log_softmax(ops.cast(teacher_logits, "float32") / temperature)
    student = ops.log_softmax(ops.cast(student_logits, "float32") / temperature)
    divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
    return ops.square(temperature) * divergence


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftTargets(DistillationLoss):
    """Hinton's distillation loss; see the module card for when to use it.

    Args:
        temperature: Softening T > 0. Assignable at any time without
            retracing.
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`.

    Reference: https://arxiv.org/abs/1503.02531

    Example:

    ```python
    loss = kd.losses.SoftTargets(temperature=4.0)
    loss(teacher_logits, student_logits)
    ```
    """

    logits = True
    temperature = Scalar(minimum=0.0, open_minimum=True)

    def __init__(self, temperature: float = 4.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        temperature = Scalar.tensor(self, "temperature")
        return soft_targets(y_true, y_pred, temperature)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
