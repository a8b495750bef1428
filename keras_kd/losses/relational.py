# SPDX-License-Identifier: Apache-2.0
"""Relational: the student's embeddings form the same figure (RKD)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.geometry import directions
from keras_kd.losses.geometry import lengths


def relational(
    teacher_embeddings: Tensor,
    student_embeddings: Tensor,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
) -> Tensor:
    """Returns how far distances and angles around each example are off.

    Args:
        teacher_embeddings: Float tensor of shape `(batch, ...)`.
        student_embeddings: Float tensor of shape `(batch, ...)`; the other
            axes may differ from the teacher's.
        distance_weight: Factor of the distances' part.
        angle_weight: Factor of the angles' part; 0 saves their memory.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    ```python
    line, larger = [[0.0], [1.0], [3.0]], [[0.0], [2.0], [6.0]]
    kd.losses.relational(line, larger)      # [0.0, 0.0, 0.0]
    ```
    """
    teacher = _differences(teacher_embeddings)
    student = _differences(student_embeddings)
    apart = _huber(_distances(teacher) - _distances(student))
    value = distance_weight * ops.mean(apart, axis=1)
    if angle_weight:
        turned = _huber(_cosines(teacher) - _cosines(student))
        value = value + angle_weight * ops.mean(turned, axis=(1, 2))
    return value


def _differences(embeddings):
    # Not from products of embeddings, which cancel: two equal examples
    # would not be at distance 0.
    embeddings = ops.cast(embeddings, "float32")
    embeddings = ops.reshape(embeddings, (ops.shape(embeddings)[0], -1))
    return embeddings[None, :, :] - embeddings[:, None, :]


def _distances(differences):
    distances = ops.squeeze(lengths(differences), axis=-1)
    pairs = ops.sum(ops.cast(distances > 0.0, "float32"))
    mean = ops.sum(distances) / ops.maximum(pairs, 1.0)
    return distances / ops.where(pairs > 0.0, mean, 1.0)


def _cosines(differences):
    sides = directions(differences)
    return ops.matmul(sides, ops.transpose(sides, (0, 2, 1)))


def _huber(errors):
    size = ops.abs(errors)
    return ops.where(size < 1.0, 0.5 * ops.square(errors), size - 0.5)


@keras.saving.register_keras_serializable(package="keras_kd")
class Relational(DistillationLoss):
    """The student's embeddings form the same figure (RKD).

    Idea: what counts in an embedding is how the examples lie to each other. The
    student matches the distances between pairs, each in units of the mean
    distance of its own network, and the angles of triplets.

        d_ij = ||f_i - f_j|| / mean of all such distances above 0
        c_ijk = cosine of the angle at f_i between f_j and f_k
        loss = 25 * mean_ij Huber(d_teacher - d_student)
             + 50 * mean_ijk Huber(c_teacher - c_student)

    Shapes: embeddings `(batch, ...)` of any widths -> values `(batch,)`: the
    means over j and k for each example i, so their mean is the loss. As in the
    authors' code the means run over all indices, equal ones included.
    Use it: on pooled features, for retrieval, face recognition, few-shot
    learning; between different architectures.
    Do not: on L2-normalised embeddings (of the student, above all), which keeps
    it from matching distances; on feature maps with many positions. The angles
    take memory of batch^3 floats (64 MB at 256), the differences batch^2 *
    features. Under `tf.distribute` it compares the examples of one replica
    only.
    Suggested: distance_weight = 25, angle_weight = 50; batches of 64 to 256.
    Both count times `weight` and, with all distillation losses, times alpha.
    Paper: Park et al. 2019, https://arxiv.org/abs/1904.05068

    Args:
        teacher: Tap of the teacher.
        student: Tap of the student.
        distance_weight: Factor of the distances' part.
        angle_weight: Factor of the angles' part; 0 saves their memory.
        **kwargs: `weight`, `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.Relational(teacher="embedding", student="embedding")
    ```
    """

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        **kwargs,
    ):
        super().__init__(teacher, student, **kwargs)
        parts = {
            "distance_weight": distance_weight,
            "angle_weight": angle_weight,
        }
        if not (min(parts.values()) >= 0.0 and max(parts.values()) > 0.0):
            raise ValueError(
                "`distance_weight` and `angle_weight` must not be negative, "
                f"and one of them positive. Received: {parts}"
            )
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def call(self, y_true, y_pred):
        return relational(
            y_true, y_pred, self.distance_weight, self.angle_weight
        )

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        """Takes any two: each tap is compared with itself only."""
