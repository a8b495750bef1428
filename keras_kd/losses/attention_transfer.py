# SPDX-License-Identifier: Apache-2.0
"""Attention transfer: both networks look at the same places of an image."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.geometry import directions
from keras_kd.losses.projector import resized


def attention_transfer(teacher_maps: Tensor, student_maps: Tensor) -> Tensor:
    """Returns the mean squared difference of attention maps, by example.

    Args:
        teacher_maps: Float tensor of shape `(batch, ..., channels)`.
        student_maps: Float tensor with as many axes. Widths and sizes may
            differ.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Raises:
        ValueError: If the maps have no positions or another number of axes.

    Example:

    ```python
    wide, small = keras.ops.ones((2, 8, 8, 64)), keras.ops.ones((2, 4, 4, 16))
    kd.losses.attention_transfer(wide, small)      # [0.0, 0.0]
    ```
    """
    teacher = ops.cast(teacher_maps, "float32")
    student = ops.cast(student_maps, "float32")
    _check(teacher.shape, student.shape)
    sizes = _common_sizes(
        *(ops.shape(maps)[1:-1] for maps in (teacher, student))
    )
    teacher = _attention(resized(teacher, sizes, _window_means))
    student = _attention(resized(student, sizes, _window_means))
    return ops.mean(ops.square(teacher - student), axis=-1)


def _attention(maps):
    energy = ops.mean(ops.square(maps), axis=-1)
    return directions(ops.reshape(energy, (ops.shape(energy)[0], -1)))


def _window_means(size, wanted, xp=np, dtype="float64"):
    """Returns the `(wanted, size)` matrix of adaptive average pooling."""
    # Not ops.adaptive_average_pool: a graph refuses it for a size of 1.
    places, windows = (xp.arange(n, dtype=dtype) for n in (size, wanted))
    first = xp.floor(windows * size / wanted)[:, None]
    last = xp.ceil((windows + 1) * size / wanted)[:, None]
    inside = xp.logical_and(places >= first, places < last)
    inside = xp.where(inside, xp.ones_like(places), xp.zeros_like(places))
    return inside / xp.sum(inside, axis=1, keepdims=True)


def _common_sizes(teacher, student):
    """Returns the smaller size of each axis of positions."""
    return [
        min(pair)
        if all(isinstance(size, int) for size in pair)
        else ops.minimum(*pair)
        for pair in zip(teacher, student, strict=True)
    ]


def _check(teacher_shape, student_shape):
    if len(teacher_shape) != len(student_shape) or len(teacher_shape) < 3:
        raise ValueError(
            "AttentionTransfer needs maps with the same number of axes, "
            "(batch, height, "
            f"width, channels). Received: teacher {tuple(teacher_shape)}, "
            f"student {tuple(student_shape)}. Name layers before the pooling."
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionTransfer(DistillationLoss):
    """Both networks look at the same places of an image.

    Idea: where the activations of a layer are large is where it looks. Averaged
    over channels, a map has one value per position, so teacher and student may
    have any widths and need no projector.

        Q = vec(mean_channels F^2) / ||vec(mean_channels F^2)||
        loss = mean_positions (Q_student - Q_teacher)^2

    Shapes: maps `(batch, ..., channels)` with one or more axes of positions, of
    any sizes and widths -> values `(batch,)`. Along an axis where the sizes
    differ, the larger map is averaged down to the smaller one first.
    Use it: between convolutional stages, one loss for each stage, beside
    `SoftTargets`; where widths differ much.
    Do not: on pooled features or logits, which have no positions; on maps of a
    few positions, which hardly differ.
    Suggested: the last layer of each stage, and the paper's weight of 1000,
    which is the default since the values are small. The sum of all distillation
    losses is multiplied by alpha, so the weight in effect is alpha * 1000.
    Paper: Zagoruyko, Komodakis 2016, https://arxiv.org/abs/1612.03928

    Args:
        teacher: Tap of the teacher: a convolutional layer's name.
        student: Tap of the student.
        weight: Factor of this loss, 1000 as in the paper.
        **kwargs: `projector` (not needed), `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.AttentionTransfer(teacher="stage_3", student="stage_3")
    ```
    """

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        weight: float = 1000.0,
        **kwargs,
    ):
        super().__init__(teacher, student, weight, **kwargs)

    def call(self, y_true, y_pred):
        return attention_transfer(y_true, y_pred)

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        if teacher_shape is not None and student_shape is not None:
            _check(teacher_shape, student_shape)
