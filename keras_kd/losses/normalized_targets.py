# SPDX-License-Identifier: Apache-2.0
"""Normalized targets: the label by the teacher's certainty, the rest apart."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses import label_split
from keras_kd.losses.base import DistillationLoss


def normalized_targets(
    teacher_logits: Tensor,
    student_logits: Tensor,
    labels: Tensor,
    gamma: ScalarLike = 1.5,
    temperature: ScalarLike = 1.0,
) -> Tensor:
    """Returns the cross-entropies of the label and of the other classes.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`.
        student_logits: Float tensor of the same shape.
        labels: Class ids of shape `(batch, ...)`; -1 for none.
        gamma: Weight of the other classes.
        temperature: Softening T > 0 of the other classes, a number or scalar
            tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`: one value per example, in
        nats.

    Example:

    ```python
    kd.losses.normalized_targets([[9.0, 1.0]], [[2.0, 0.0]], labels=[0])
    ```
    """
    temperature = ops.cast(temperature, "float32")
    at_label = label_split.is_label(labels, student_logits)
    split = label_split.split_at_label
    label_t, _, _ = split(teacher_logits, at_label)
    label_s, _, _ = split(student_logits, at_label)
    _, _, others_t = split(teacher_logits, at_label, temperature)
    _, _, others_s = split(student_logits, at_label, temperature)
    others = -ops.sum(ops.exp(others_t) * others_s, axis=-1)
    values = gamma * ops.square(temperature) * others
    values = values - ops.exp(label_t) * label_s
    return label_split.where_labelled(values, at_label)


@keras.saving.register_keras_serializable(package="keras_kd")
class NormalizedTargets(DistillationLoss):
    """The label by the teacher's certainty, the rest apart.

    Idea: the soft cross-entropy is split at the true class y. The label's part
    is weighed by how sure the teacher is of it; the other classes, which sum to
    different totals in teacher and student, are renormalised before they are
    compared (NKD).

        t, s = softmax(z) at T = 1;  o = softmax(z / T) without y, renormalised
        loss = -t_y * log s_y - gamma * T^2 * sum_{i != y} o_t[i] * log o_s[i]

    Shapes: logits `(batch, ..., classes)` and class ids `(batch, ...)` ->
    values `(batch, ...)`; 0 where there is no label (id -1).
    Use it: on labelled data with many classes, instead of `SoftTargets`.
    Do not: judge it by its value. It is a cross-entropy: a student that equals
    the teacher has the teacher's entropy left, not 0.
    Suggested: gamma = 1.5, T = 1.
    Paper: Yang et al. 2023, https://arxiv.org/abs/2303.13005

    The cross-entropy with the label, which the paper adds, is the student's
    own loss in `Distiller`.

    Args:
        gamma: Weight of the other classes. Assignable without retracing, as
            is `temperature`.
        temperature: Softening T > 0 of the other classes.
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.NormalizedTargets(gamma=1.5)
    loss((teacher_logits, labels), student_logits)
    ```
    """

    logits = True
    label_aware = True
    gamma = Scalar(minimum=0.0)
    temperature = Scalar(minimum=0.0, open_minimum=True)

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.gamma = gamma
        self.temperature = temperature

    def call(self, y_true, y_pred):
        teacher, labels = y_true
        return normalized_targets(
            teacher,
            y_pred,
            labels,
            Scalar.tensor(self, "gamma"),
            Scalar.tensor(self, "temperature"),
        )
