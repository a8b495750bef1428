# SPDX-License-Identifier: Apache-2.0
"""Hard targets: the class the teacher chooses is the student's label."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss


def hard_targets(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Returns the student's cross-entropy with the teacher's choice.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`. Of
            equal largest scores the first counts.
        student_logits: Float tensor of the same shape.

    Returns:
        Float32 tensor of shape `(batch, ...)`: one value per example, in
        nats.

    Example:

    ```python
    kd.losses.hard_targets([[9.0, 1.0]], [[0.0, 0.0]])   # [log 2]
    ```
    """
    student = ops.log_softmax(ops.cast(student_logits, "float32"))
    choice = ops.expand_dims(ops.argmax(teacher_logits, axis=-1), axis=-1)
    return -ops.squeeze(ops.take_along_axis(student, choice, axis=-1), axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class HardTargets(DistillationLoss):
    """The class the teacher chooses is the student's label.

    Idea: the teacher's answer is used as a label would be. It follows the
    augmented image, where the dataset's label may have gone out of view, and it
    needs no temperature.

        loss = -log softmax(z_student)[argmax z_teacher]

    Shapes: logits `(batch, ..., classes)` -> values `(batch, ...)`.
    Use it: to pseudo-label unlabelled data, and with a teacher whose
    probabilities are not to be trusted (overconfident, or only known by rank).
    Do not: when the teacher is often wrong, or when there are few classes and
    the labels are clean: it says nothing about the wrong classes. Its minimum
    is 0 only for a student that is certain.
    Suggested: alpha = 0.5.
    Paper: Touvron et al. 2020, https://arxiv.org/abs/2012.12877

    Args:
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.HardTargets()
    loss(teacher_logits, student_logits)
    ```
    """

    logits = True

    def call(self, y_true, y_pred):
        return hard_targets(y_true, y_pred)
