# SPDX-License-Identifier: Apache-2.0
"""Feature matching: a student layer predicts a teacher layer (FitNets)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import ProjectorLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss


def feature_matching(
    teacher_features: Tensor, student_features: Tensor
) -> Tensor:
    """Returns the mean squared difference of features, by position.

    Args:
        teacher_features: Float tensor of shape `(batch, ..., features)`.
        student_features: Float tensor of the same shape.

    Returns:
        Float32 tensor of shape `(batch, ...)`, so that a mask over positions
        leaves the padding out.

    Example:

    ```python
    kd.losses.feature_matching([[1.0, 2.0]], [[1.0, 0.0]])   # [2.0]
    ```
    """
    teacher = ops.cast(teacher_features, "float32")
    student = ops.cast(student_features, "float32")
    return ops.mean(ops.square(teacher - student), axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class FeatureMatching(DistillationLoss):
    """A student layer predicts a teacher layer (FitNets).

    Idea: what a middle layer of the teacher has computed is a hint for a middle
    layer of the student. A learned projection brings widths, ranks and spatial
    sizes together, so the student need not imitate the teacher's geometry.

        loss = mean over features of (F_teacher - r(F_student))^2

    Shapes: taps `(batch, ..., features)` -> values `(batch, ...)`.
    Use it: with a deep student, or beside `SoftTargets` when logits alone teach
    little (few classes, regression, embeddings).
    Do not: between very different architectures' early layers; weigh it so that
    its value at the start is not far above the label loss.
    Suggested: a layer in the middle of both. The paper's reimplementations use
    weight 100 on normalised CIFAR features; start at 1 and look at the logs.
    Paper: Romero et al. 2014, https://arxiv.org/abs/1412.6550

    Args:
        teacher: Tap of the teacher (a layer's name, or a path into a nested
            model).
        student: Tap of the student.
        projector: `"auto"` (default), `None` or a Keras layer.
        **kwargs: `weight`, `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.FeatureMatching(teacher="conv_4", student="conv_2")
    ```
    """

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        projector: ProjectorLike = "auto",
        **kwargs,
    ):
        super().__init__(teacher, student, projector=projector, **kwargs)

    def call(self, y_true, y_pred):
        return feature_matching(y_true, y_pred)
