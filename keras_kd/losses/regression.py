# SPDX-License-Identifier: Apache-2.0
"""Regression: the student's numbers follow the teacher's, or its bound."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import ProjectorLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss


def regression(
    teacher_values: Tensor,
    student_values: Tensor,
    labels: Tensor | None = None,
    margin: float | None = None,
) -> Tensor:
    """Returns the squared error of numbers, by position.

    Args:
        teacher_values: Float tensor of shape `(batch, ..., values)`.
        student_values: Float tensor of the same shape.
        labels: The true numbers, of the same shape; with a `margin` only.
        margin: `None` for the error to the teacher. A number for the error
            to the label, and that only where it is above the teacher's own
            minus the margin.

    Returns:
        Float32 tensor of shape `(batch, ...)`: the mean over the values.

    Example:

    ```python
    kd.losses.regression([[1.0, 2.0]], [[1.0, 0.0]])             # [2.0]
    kd.losses.regression([[5.0]], [[3.0]], [[0.0]], margin=0.0)  # [0.0]
    ```
    """
    if margin is None:
        return _mean_square(teacher_values, student_values)
    own = _mean_square(labels, student_values)
    bound = _mean_square(labels, teacher_values)
    return ops.where(own + margin > bound, own, ops.zeros_like(own))


def _mean_square(first, second):
    difference = ops.cast(first, "float32") - ops.cast(second, "float32")
    return ops.mean(ops.square(difference), axis=-1)


@keras.saving.register_keras_serializable(package="keras_kd")
class Regression(DistillationLoss):
    """The student's numbers follow the teacher's, or stay within its error.

    Idea: a teacher's number has less noise than a label, so it is the better
    target, also for examples without a label. But it may be far off: numbers
    have no bounds, as probabilities do. With a `margin` the teacher is no
    target but an upper bound: the student learns the label until it is better
    than the teacher by the margin.

        loss = mean (y_teacher - y_student)^2                     (no margin)
        loss = mean (y - y_student)^2  if that + margin > mean (y - y_teacher)^2
               0                       otherwise

    Shapes: numbers `(batch, ..., values)` -> values `(batch, ...)`.
    Use it: for outputs that are no class scores: prices, ages, coordinates,
    depth, ratings; with a margin for boxes and sizes, beside the label loss.
    Do not: on class scores, where squared errors of logits weigh what hardly
    matters; with a margin on examples without a label.
    Suggested: no margin and alpha = 0.5; the paper bounds boxes, with a weight
    of 0.5. Give values one scale, or the largest is all that is learned.
    Paper: Chen et al. 2017, https://papers.nips.cc/paper/6676-learning-efficient-object-detection-models-with-knowledge-distillation

    Args:
        teacher: Tap of the teacher.
        student: Tap of the student.
        projector: `None` (default), `"auto"` or a Keras layer.
        margin: `None`, or by how much the mean squared error of the student
            shall be below that of the teacher.
        **kwargs: `weight`, `name`; see `DistillationLoss`.

    Raises:
        ValueError: If `margin` is no number.

    Example:

    ```python
    distiller = kd.Distiller(
        teacher, student, distillation_losses=kd.losses.Regression()
    )
    ```
    """

    class_labels = False

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        projector: ProjectorLike = None,
        margin: float | None = None,
        **kwargs,
    ):
        super().__init__(teacher, student, projector=projector, **kwargs)
        if margin is not None and not isinstance(margin, (int, float)):
            raise ValueError(
                "`margin` must be None or a number, a mean squared error. "
                f"Received: margin={margin!r}"
            )
        self.margin = margin
        self.label_aware = margin is not None

    def call(self, y_true, y_pred):
        teacher, labels = y_true if self.label_aware else (y_true, None)
        return regression(teacher, y_pred, labels, self.margin)
