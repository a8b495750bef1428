# SPDX-License-Identifier: Apache-2.0
"""Decoupled: the true class and the others are matched on their own (DKD)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses import label_split
from keras_kd.losses.base import DistillationLoss


def decoupled(
    teacher_logits: Tensor,
    student_logits: Tensor,
    labels: Tensor,
    target_weight: ScalarLike = 1.0,
    non_target_weight: ScalarLike = 8.0,
    temperature: ScalarLike = 4.0,
) -> Tensor:
    """Returns the two parts of the soft-target loss, weighed apart.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`.
        student_logits: Float tensor of the same shape.
        labels: Class ids of shape `(batch, ...)`; -1 for none.
        target_weight: Weight of "label or not".
        non_target_weight: Weight of "which of the others".
        temperature: Softening T > 0, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`: one value per example, in
        nats times T^2.

    Example:

    ```python
    kd.losses.decoupled([[9.0, 1.0, 0.0]], [[2.0, 0.0, 0.0]], labels=[0])
    ```
    """
    temperature = ops.cast(temperature, "float32")
    at_label = label_split.is_label(labels, student_logits)
    label_t, rest_t, others_t = label_split.split_at_label(
        teacher_logits, at_label, temperature
    )
    label_s, rest_s, others_s = label_split.split_at_label(
        student_logits, at_label, temperature
    )
    target = ops.exp(label_t) * (label_t - label_s)
    target = target + ops.exp(rest_t) * (rest_t - rest_s)
    others = ops.sum(ops.exp(others_t) * (others_t - others_s), axis=-1)
    values = target_weight * target + non_target_weight * others
    values = ops.square(temperature) * values
    return label_split.where_labelled(values, at_label)


@keras.saving.register_keras_serializable(package="keras_kd")
class Decoupled(DistillationLoss):
    """The true class and the others are matched on their own (DKD).

    Idea: in the soft-target loss the part about the wrong classes is weighed by
    1 - p_y, so a teacher that is sure of the label y teaches little about them.
    Here both parts have weights of their own.

        b = (p_y, 1 - p_y),  o = p without class y, renormalised; both at T
        loss = T^2 * (target_weight * KL(b_teacher || b_student)
                      + non_target_weight * KL(o_teacher || o_student))

    Shapes: logits `(batch, ..., classes)` and class ids `(batch, ...)` ->
    values `(batch, ...)`; 0 where there is no label (id -1).
    Use it: with a confident teacher and labelled training data.
    Do not: on yes/no outputs or with two classes (the second part is then 0),
    or when the teacher is often wrong about the label.
    Suggested: T = 4; non_target_weight 8 where the teacher is far more
    confident than the student, 2 where they are alike; on ImageNet 0.5 with T =
    1. The authors raise the loss from 0 over the first 20 epochs (1 on
    ImageNet): `warm_up_steps` = 20 * steps per epoch.
    Paper: Zhao et al. 2022, https://arxiv.org/abs/2203.08679

    Args:
        target_weight: Weight of the part "label or not", `alpha` in the
            paper. Assignable without retracing, as are the two others.
        non_target_weight: Weight of the part "which of the others", `beta`
            in the paper.
        temperature: Softening T > 0.
        **kwargs: `teacher`, `student`, `weight`, `warm_up_steps`, `name`; see
            `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.Decoupled(non_target_weight=2.0)
    loss((teacher_logits, labels), student_logits)
    ```
    """

    logits = True
    label_aware = True
    target_weight = Scalar(minimum=0.0)
    non_target_weight = Scalar(minimum=0.0)
    temperature = Scalar(minimum=0.0, open_minimum=True)

    def __init__(
        self,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        temperature: float = 4.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.target_weight = target_weight
        self.non_target_weight = non_target_weight
        self.temperature = temperature

    def call(self, y_true, y_pred):
        teacher, labels = y_true
        return decoupled(
            teacher,
            y_pred,
            labels,
            Scalar.tensor(self, "target_weight"),
            Scalar.tensor(self, "non_target_weight"),
            Scalar.tensor(self, "temperature"),
        )
