# SPDX-License-Identifier: Apache-2.0
"""Review: all stages of the student learn from the stages of the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_kd.core.type_aliases import ProjectorLike
from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.review_fusion import ReviewFusion

_GRIDS = (4, 2, 1)


def hierarchical_context(teacher_map: Tensor, student_map: Tensor) -> Tensor:
    """Returns the distance of two maps, in full and over coarse grids.

    Args:
        teacher_map: Float tensor of shape `(batch, height, width, channels)`
            with known sizes, or `(batch, channels)`.
        student_map: Float tensor of the same shape.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    ```python
    ones, zeros = keras.ops.ones((2, 8, 8, 3)), keras.ops.zeros((2, 8, 8, 3))
    kd.losses.hierarchical_context(ones, zeros)      # [1.0, 1.0]
    ```
    """
    teacher = ops.cast(teacher_map, "float32")
    student = ops.cast(student_map, "float32")
    # The average is linear, so that of the difference is the difference.
    difference = teacher - student
    sizes = tuple(difference.shape[1:-1])
    values, weight, weights = _mean_square(difference), 1.0, 1.0
    for grid in _GRIDS:
        if sizes and grid < min(sizes):
            weight = weight / 2.0
            pooled = _averaged(difference, grid)
            values = values + weight * _mean_square(pooled)
            weights = weights + weight
    return values / weights


def review(teacher_maps: Tensor, student_maps: Tensor) -> Tensor:
    """Returns the sum of the distances of several pairs of maps.

    Args:
        teacher_maps: A tensor as for `hierarchical_context`, or a list.
        student_maps: As many tensors, of the same shapes.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Raises:
        ValueError: If the numbers of maps differ.

    Example:

    ```python
    ones, zeros = keras.ops.ones((2, 8, 8, 3)), keras.ops.zeros((2, 8, 8, 3))
    kd.losses.review([ones, ones], [zeros, ones])      # [1.0, 1.0]
    ```
    """
    if not isinstance(teacher_maps, (list, tuple)):
        return hierarchical_context(teacher_maps, student_maps)
    _check_lengths(teacher_maps, student_maps)
    pairs = zip(teacher_maps, student_maps, strict=True)
    return sum(hierarchical_context(*pair) for pair in pairs)


def _averaged(maps, grid):
    positions = tuple(range(1, len(maps.shape) - 1))
    if grid == 1:
        # Keras' adaptive pooling to one position fails in compiled steps.
        return ops.mean(maps, axis=positions)
    sizes = (grid,) * len(positions)
    return ops.adaptive_average_pool(maps, sizes, "channels_last")


def _mean_square(difference):
    return ops.mean(
        ops.square(difference), axis=range(1, len(difference.shape))
    )


def _check_lengths(teacher, student):
    if len(teacher) != len(student):
        raise ValueError(
            "Review needs as many taps of the student as of the teacher, in "
            f"the same order. Received: teacher={teacher}, student={student}"
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class Review(DistillationLoss):
    """All stages of the student learn from the stages of the teacher.

    Idea: a stage of the student that has seen the deeper ones can learn from
    the teacher at once what is local and what is not. A trained fusion (see
    `ReviewFusion`) hands every stage on to the next shallower one; the distance
    to the teacher's map is then taken in full and averaged over coarse grids.

        D(a, b) = sum_l w_l MSE(pool_l a, pool_l b) / sum_l w_l,
                  l = full, 4x4, 2x2, 1x1,  w = 1, 1/2, 1/4, 1/8
        loss = sum over stages of D(F_teacher, fusion(F_student))

    Shapes: lists of maps `(batch, height, width, channels)`, the shallowest
    first; a last pair may be pooled vectors `(batch, channels)` -> values
    `(batch,)`. Grids that are not smaller than a map are left out.
    Use it: between convolutional networks, whatever their widths and sizes, on
    as many stages of the one as of the other.
    Do not: with a single tap (`FeatureMatching` is cheaper), with inputs of
    unknown size, or where the fusion's cost in training matters.
    Suggested: the last layer of each stage, before its activation, and the
    pooled features. The authors weigh it 0.7 to 8, more for smaller students,
    and raise it from 0 over the first 20 epochs: `warm_up_steps` = 20 * steps
    per epoch.
    Paper: Chen et al. 2021, https://arxiv.org/abs/2104.09044

    Args:
        teacher: Taps of the teacher, the shallowest first.
        student: As many taps of the student.
        projector: `"auto"` (default) for the fusion, which is trained with
            the student and not shipped; `None` to compare taps of the same
            shapes as they are.
        width: Channels inside the fusion. Defaults to those of the student's
            deepest tap, at most 512.
        **kwargs: `weight`, `warm_up_steps`, `name`; see `DistillationLoss`.

    Raises:
        ValueError: If the numbers of taps differ.

    Example:

    ```python
    loss = kd.losses.Review(
        teacher=["conv_2", "conv_4", "pooled"],
        student=["conv_2", "conv_4", "pooled"],
        warm_up_steps=1000,
    )
    kd.Distiller(teacher, student, distillation_losses=loss)
    ```
    """

    def __init__(
        self,
        teacher: str | Sequence[str] = "output",
        student: str | Sequence[str] = "output",
        projector: ProjectorLike = "auto",
        width: int | None = None,
        **kwargs,
    ):
        super().__init__(teacher, student, projector=projector, **kwargs)
        if projector not in (None, "auto"):
            raise ValueError(
                "Review trains a fusion of its own: `projector` must be "
                f"'auto' or None. Received: projector={projector!r}"
            )
        if width is not None and width < 1:
            raise ValueError(
                f"`width` must be at least 1. Received: width={width}"
            )
        _check_lengths(*self.taps)
        self.width = width

    def call(self, y_true, y_pred):
        return review(y_true, y_pred)

    def make_projector(
        self, teacher_shape: Shape, student_shape: Shape, name: str
    ) -> keras.layers.Layer | None:
        fusion = ReviewFusion(
            [shape[1:] for shape in _as_list(self.teacher, teacher_shape)],
            self.width,
            name=name,
        )
        fusion.build(_as_list(self.student, student_shape))
        return fusion

    def project(
        self,
        layer: keras.layers.Layer,
        teacher: Tensor,
        student: Tensor,
        sample_index: Tensor | None = None,
    ) -> Tensor:
        fused = layer(_as_list(self.student, student), training=True)
        return fused[0] if isinstance(self.teacher, str) else fused


def _as_list(tap, value):
    return [value] if isinstance(tap, str) else value
