# SPDX-License-Identifier: Apache-2.0
"""Similarity-preserving: examples alike for the teacher are alike here too."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.geometry import directions


def similarity_preserving(
    teacher_features: Tensor, student_features: Tensor
) -> Tensor:
    """Returns how far the similarities of each example are off.

    Args:
        teacher_features: Float tensor of shape `(batch, ...)`.
        student_features: Float tensor of shape `(batch, ...)`; the other
            axes may differ from the teacher's.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    ```python
    apart, same = [[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]
    kd.losses.similarity_preserving(apart, same)      # [0.293, 0.293]
    ```
    """
    teacher = _similarities(teacher_features)
    student = _similarities(student_features)
    # The mean over a row is its sum divided by the batch size.
    return ops.mean(ops.square(teacher - student), axis=-1)


def _similarities(features):
    features = ops.cast(features, "float32")
    features = ops.reshape(features, (ops.shape(features)[0], -1))
    return directions(ops.matmul(features, ops.transpose(features)))


@keras.saving.register_keras_serializable(package="keras_kd")
class SimilarityPreserving(DistillationLoss):
    """Examples alike for the teacher are alike here too.

    Idea: the similarities between the examples of a batch say what a layer has
    understood, in a table of batch x batch that has no feature axis. So teacher
    and student may be of any shapes and need no projector.

        G = rows of F F^T, each divided by its length;  F is (batch, features)
        loss = ||G_teacher - G_student||^2 / batch^2

    Shapes: taps `(batch, ...)` of any shapes -> values `(batch,)`: the sum over
    an example's row divided by the batch size, whose mean is the loss.
    Use it: on the last feature map, between different architectures.
    Do not: with small batches, or batches sorted by class. Under
    `tf.distribute` it compares the examples of one replica only.
    Suggested: batches of 64 or more, and the paper's weight of 3000, which is
    the default since the values are small. The sum of all distillation losses
    is multiplied by alpha, so the weight in effect is alpha * 3000.
    Paper: Tung, Mori 2019, https://arxiv.org/abs/1907.09682

    Args:
        teacher: Tap of the teacher: a layer's name.
        student: Tap of the student.
        weight: Factor of this loss, 3000 as in the paper.
        **kwargs: `projector` (not needed), `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.SimilarityPreserving(teacher="pool", student="pool")
    ```
    """

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        weight: float = 3000.0,
        **kwargs,
    ):
        super().__init__(teacher, student, weight, **kwargs)

    def call(self, y_true, y_pred):
        return similarity_preserving(y_true, y_pred)

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        """Takes any two: each tap is compared with itself only."""
