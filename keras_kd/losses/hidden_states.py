# SPDX-License-Identifier: Apache-2.0
"""Hidden states: each token means the same to a transformer's layers."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import ProjectorLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.feature_matching import feature_matching
from keras_kd.losses.geometry import directions


def hidden_states(
    teacher_states: Tensor, student_states: Tensor, metric: str = "cosine"
) -> Tensor:
    """Returns how far apart two hidden states are, by position.

    Args:
        teacher_states: Float tensor of shape `(batch, ..., width)`.
        student_states: Float tensor of the same shape.
        metric: `"cosine"` (1 - cosine; 1 where a state is zero) or `"mse"`
            (mean squared difference).

    Returns:
        Float32 tensor of shape `(batch, ...)`.

    Raises:
        ValueError: If `metric` is neither.

    Example:

    ```python
    kd.losses.hidden_states([[[1.0, 0.0]]], [[[0.0, 2.0]]])      # [[1.0]]
    ```
    """
    _check(metric)
    teacher = ops.cast(teacher_states, "float32")
    student = ops.cast(student_states, "float32")
    return _METRICS[metric](teacher, student)


def _cosine(teacher, student):
    return 1.0 - ops.sum(directions(teacher) * directions(student), axis=-1)


_METRICS = {"cosine": _cosine, "mse": feature_matching}


def _check(metric):
    if metric not in _METRICS:
        raise ValueError(
            f"`metric` must be one of {list(_METRICS)}. "
            f"Received: metric={metric!r}"
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class HiddenStates(DistillationLoss):
    """Each token means the same to a transformer's layers.

    Idea: a student transformer with fewer layers takes over the teacher's
    representation of each token, layer by layer: its direction (DistilBERT) or
    its values (TinyBERT). A learned projection brings the widths together.

        cosine:  loss = 1 - cos(h_teacher, h_student)
        mse:     loss = mean over features of (h_teacher - h_student)^2

    Shapes: states `(batch, positions, width)` -> values `(batch, positions)`,
    so that a mask leaves padding out; also `(batch, width)` -> `(batch,)`.
    Use it: between transformers, on the last layer or on every layer kept; also
    on embeddings, which TinyBERT matches with "mse".
    Do not: between models of different tokenizers, whose positions differ.
    Suggested: metric "cosine" with weight 1 beside 5 for `SoftTargets` (the
    weights of DistilBERT, which has 2 for the language modelling loss); "mse"
    with weight 1 on every layer, where student layer m meets teacher layer 3m
    (TinyBERT with 4 layers of 12).
    Paper: Sanh et al. 2019, https://arxiv.org/abs/1910.01108

    See also https://arxiv.org/abs/1909.10351 ("mse"). TinyBERT's code takes the
    mean over classes in the soft targets that follow: the
    gradient of `SoftTargets(1.0)` is theirs times the number of classes.

    Args:
        teacher: Tap of the teacher: a layer that gives `(batch, positions,
            width)`.
        student: Tap of the student.
        metric: `"cosine"` or `"mse"`.
        projector: `"auto"` (default), `None` or a Keras layer.
        **kwargs: `weight`, `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.HiddenStates("block_12", "block_4", metric="mse")
    ```
    """

    def __init__(
        self,
        teacher: str = "output",
        student: str = "output",
        metric: str = "cosine",
        projector: ProjectorLike = "auto",
        **kwargs,
    ):
        super().__init__(teacher, student, projector=projector, **kwargs)
        _check(metric)
        self.metric = metric

    def call(self, y_true, y_pred):
        return hidden_states(y_true, y_pred, self.metric)
