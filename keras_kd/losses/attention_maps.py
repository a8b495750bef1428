# SPDX-License-Identifier: Apache-2.0
"""Attention maps: each token attends to the same tokens (TinyBERT)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.base import compatible

_MASKED = -100.0  # masks add -1e4 or less; no score of an open key gets there


def attention_maps(teacher_maps: Tensor, student_maps: Tensor) -> Tensor:
    """Returns the mean squared difference of attention, by query.

    Args:
        teacher_maps: Float tensor of shape `(batch, heads, queries, keys)`:
            scores before the softmax or probabilities after it.
        student_maps: Float tensor of the same kind and shape; the number of
            heads may differ.

    Returns:
        Float32 tensor of shape `(batch, queries)`.

    Example:

    ```python
    eyes = keras.ops.eye(3)[None, None]
    kd.losses.attention_maps(eyes, 0.0 * eyes)      # [[1/3, 1/3, 1/3]]
    ```
    """
    teacher, student = _open(teacher_maps), _open(student_maps)
    if teacher.shape[1] != student.shape[1]:
        teacher = ops.mean(teacher, axis=1, keepdims=True)
        student = ops.mean(student, axis=1, keepdims=True)
    return ops.mean(ops.square(teacher - student), axis=(1, 3))


def _open(maps):
    maps = ops.cast(maps, "float32")
    return ops.where(maps <= _MASKED, 0.0, maps)


@keras.saving.register_keras_serializable(package="keras_kd")
class AttentionMaps(DistillationLoss):
    """Each token attends to the same tokens (TinyBERT).

    Idea: which token looks at which holds much of what a transformer knows of
    language. The student's attention matrices learn the teacher's directly.

        loss = mean over heads and keys of (A_teacher - A_student)^2

    Shapes: maps `(batch, heads, queries, keys)` -> values `(batch, queries)`,
    so that a mask leaves padded queries out. Where the numbers of heads differ,
    heads of no common order are compared by their mean.
    Use it: between transformers, beside `HiddenStates` on the same layers, for
    the first part of training; `SoftTargets` then takes over.
    Do not: between models of different tokenizers; with attention kernels that
    never form the matrix.
    Suggested: weight 1 for every layer of the student, where student layer m
    meets teacher layer 3m (4 layers of 12). Like the authors, take the scores
    before their softmax. As in their code, a score of -100 or less counts as a
    masked key, and as 0.
    Paper: Jiao et al. 2019, https://arxiv.org/abs/1909.10351

    Args:
        **kwargs: `teacher` and `student`, taps that give `(batch, heads,
            queries, keys)`; `weight`, `name`; see `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.AttentionMaps(teacher="scores_12", student="scores_4")
    ```
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None and len(mask.shape) == 4:
            # Keras' attention layers mark pairs (query, key); a query counts
            # if it may look at any key.
            y_pred = ops.copy(y_pred)
            y_pred._keras_mask = ops.any(mask, axis=(1, 3))
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        return attention_maps(y_true, y_pred)

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        if teacher_shape is None or student_shape is None:
            return
        four = len(teacher_shape) == len(student_shape) == 4
        if not four or not compatible(teacher_shape[2:], student_shape[2:]):
            raise ValueError(
                "AttentionMaps needs maps (batch, heads, queries, keys) over "
                "the same positions. Received: teacher "
                f"'{self.teacher}' with shape {tuple(teacher_shape)}, student "
                f"'{self.student}' with shape {tuple(student_shape)}. Name "
                "the tensors of attention scores, and use sequences of the "
                "same length for both models."
            )
