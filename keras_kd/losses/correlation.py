# SPDX-License-Identifier: Apache-2.0
"""Correlation: the student ranks classes and examples as the teacher."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.geometry import lengths

# Added to the product of the lengths, as in the authors' code: where a side
# varies less, nothing correlates.
_EPSILON = 1e-8


def correlation(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: ScalarLike = 1.0,
    inter_weight: ScalarLike = 1.0,
    intra_weight: ScalarLike = 1.0,
) -> Tensor:
    """Returns how far predictions are from a linear relation.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`.
        student_logits: Float tensor of the same shape.
        temperature: Softening T > 0, a number or scalar tensor.
        inter_weight: Weight of the correlation over an example's classes.
        intra_weight: Weight of the correlation over a class's examples (and
            positions, if there are any).

    Returns:
        Float32 tensor of shape `(batch, ...)`. The second part is the same
        number for all.

    Example:

    ```python
    kd.losses.correlation([[9.0, 1.0], [0.0, 2.0]], [[2.0, 0.0], [1.0, 1.0]])
    ```
    """
    temperature = ops.cast(temperature, "float32")
    teacher = ops.softmax(ops.cast(teacher_logits, "float32") / temperature)
    student = ops.softmax(ops.cast(student_logits, "float32") / temperature)
    inter = 1.0 - _pearson(teacher, student)
    intra = 1.0 - ops.mean(_pearson(_by_class(teacher), _by_class(student)))
    values = inter_weight * inter + intra_weight * intra
    return ops.square(temperature) * values


def _by_class(probabilities):
    """Returns `(classes, examples)`, positions counting as examples."""
    classes = probabilities.shape[-1]
    return ops.transpose(ops.reshape(probabilities, (-1, classes)))


def _pearson(a, b):
    a = a - ops.mean(a, axis=-1, keepdims=True)
    b = b - ops.mean(b, axis=-1, keepdims=True)
    product_of_lengths = (lengths(a) * lengths(b))[..., 0]
    return ops.sum(a * b, axis=-1) / (product_of_lengths + _EPSILON)


@keras.saving.register_keras_serializable(package="keras_kd")
class Correlation(DistillationLoss):
    """The student ranks classes, and examples, as the teacher (DIST).

    Idea: a much stronger teacher is too hard to copy probability by
    probability. Pearson's correlation asks for less: the student's scores may
    be any linear function of the teacher's, for each example over its classes
    ("inter"), and for each class over the examples of the batch ("intra").

        p = softmax(z / T)
        inter_i = 1 - corr(p_teacher[i, :], p_student[i, :])
        intra = mean over classes c of
                1 - corr(p_teacher[:, c], p_student[:, c])
        value_i = T^2 * (inter_weight * inter_i + intra_weight * intra)

    Shapes: logits `(batch, ..., classes)` -> values `(batch, ...)`.
    Use it: when the teacher is far larger, or trained with much stronger
    augmentation, than the student.
    Do not: in small batches, or where a batch holds few of the classes: a class
    that is equally likely for all examples has no correlation. Nor with two
    classes, where an example's correlation is only -1 or 1.
    Suggested: T = 1 and alpha = 2/3 (the authors' ImageNet setting is weight 2
    beside the label loss).
    Paper: Huang et al. 2022, https://arxiv.org/abs/2205.10536

    Sample weights and masks weigh an example's value. The correlation over
    the batch is still taken over all examples and positions, those of weight
    0 and padding included; with several replicas, over those of a replica.

    Args:
        temperature: Softening T > 0. The default 1 is the authors' for
            ImageNet. Correlations do not change with the scale of their
            arguments, so the factor T^2, kept from the authors' code, is not
            needed for the gradient's scale: a larger T weighs this loss
            more.
        inter_weight: Weight of the correlation over an example's classes.
        intra_weight: Weight of the correlation over a class's examples.
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.Correlation(weight=2.0)
    loss(teacher_logits, student_logits)
    ```
    """

    logits = True
    temperature = Scalar(minimum=0.0, open_minimum=True)
    inter_weight = Scalar(minimum=0.0)
    intra_weight = Scalar(minimum=0.0)

    def __init__(
        self,
        temperature: float = 1.0,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.temperature = temperature
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight

    def call(self, y_true, y_pred):
        return correlation(
            y_true,
            y_pred,
            Scalar.tensor(self, "temperature"),
            Scalar.tensor(self, "inter_weight"),
            Scalar.tensor(self, "intra_weight"),
        )
