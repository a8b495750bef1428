# SPDX-License-Identifier: Apache-2.0
"""Channel-wise: each channel is strong at the same positions (CWD)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import ProjectorLike
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss


def channel_wise(
    teacher_maps: Tensor, student_maps: Tensor, temperature: ScalarLike = 4.0
) -> Tensor:
    """Returns `tau^2 KL(teacher || student)` over positions, by example.

    Args:
        teacher_maps: Float tensor of shape `(batch, ..., channels)` with one
            or more axes of positions.
        student_maps: Float tensor of the same shape.
        temperature: Softening tau > 0, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch,)`: the mean over channels, in nats
        times tau^2.

    Raises:
        ValueError: If the maps have no axis of positions.

    Example:

    ```python
    here, there = [[[9.0], [0.0]]], [[[0.0], [9.0]]]
    kd.losses.channel_wise(here, there, temperature=1.0)      # [8.998]
    ```
    """
    temperature = ops.cast(temperature, "float32")
    teacher = _log_shares(teacher_maps, temperature)
    student = _log_shares(student_maps, temperature)
    divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=1)
    return ops.square(temperature) * ops.mean(divergence, axis=-1)


def _log_shares(maps, temperature):
    maps = ops.cast(maps, "float32") / temperature
    _check(maps.shape)
    rows = ops.reshape(maps, (ops.shape(maps)[0], -1, maps.shape[-1]))
    return ops.log_softmax(rows, axis=1)


def _check(shape):
    # Over a single position every softmax is 1, and the loss always 0.
    if len(shape) < 3:
        raise ValueError(
            "ChannelWise needs maps with positions, (batch, height, width, "
            f"channels). Received: shape {tuple(shape)}. Name a layer before "
            "the pooling, or use FeatureMatching."
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class ChannelWise(DistillationLoss):
    """Each channel is strong at the same positions (CWD).

    Idea: in dense prediction a channel often stands for one kind of thing, and
    says where it is. A softmax over the positions of a channel turns it into a
    distribution over places, in which the strong positions count most.

        p_c = softmax_positions(F_teacher_c / tau), q_c likewise of the student
        loss = tau^2 / channels * sum_channels KL(p_c || q_c)

    Shapes: maps `(batch, height, width, channels)` or sequences `(batch,
    positions, channels)` -> values `(batch,)`, in nats times tau^2.
    Use it: for segmentation and detection, on the class scores (before their
    softmax) or the last feature map.
    Do not: on features without positions; on padded sequences, whose padding
    would take part in the softmax; for a per-pixel comparison of classes, which
    is `SoftTargets` itself on scores `(batch, height, width, classes)`, with
    sample weight 0 on pixels to ignore.
    Suggested: temperature 4 with weight 3 on class scores and 50 on features,
    as in CIRKD's reimplementation; mmrazor takes temperature 1 and weight 5.
    Paper: Shu et al. 2020, https://arxiv.org/abs/2011.13256

    Args:
        teacher: Tap of the teacher.
        student: Tap of the student.
        temperature: Softening tau > 0. Assignable at any time without
            retracing; `Distiller.temperature` sets it as well.
        projector: `"auto"` (default), `None` or a Keras layer.
        **kwargs: `weight`, `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.ChannelWise(teacher="decoder", student="decoder")
    ```
    """

    temperature = Scalar(minimum=0.0, open_minimum=True)

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        temperature: float = 4.0,
        projector: ProjectorLike = "auto",
        **kwargs,
    ):
        super().__init__(teacher, student, projector=projector, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred):
        temperature = Scalar.tensor(self, "temperature")
        return channel_wise(y_true, y_pred, temperature)

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        for shape in filter(None, (teacher_shape, student_shape)):
            _check(shape)
        super().check_shapes(teacher_shape, student_shape)
