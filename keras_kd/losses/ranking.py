# SPDX-License-Identifier: Apache-2.0
"""Ranking: the teacher's best items count as liked (ranking distillation)."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core.type_aliases import Shape
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses import sparse
from keras_kd.losses.base import DistillationLoss

_LEFT_OUT = -1e9
# What a top-k target, which has log-probabilities in float16, makes of it.
_LEFT_OUT_OF_TOP_K = -6e4


def ranking(
    teacher_scores: Tensor,
    student_scores: Tensor,
    top_k: int = 10,
    position_decay: float = 1.0,
    dynamic: bool = False,
    discrepancy: float = 0.1,
) -> Tensor:
    """Returns the weighted log loss of the teacher's best items.

    Args:
        teacher_scores: Float tensor of shape `(batch, ..., items)`; only its
            order counts, and what is at most -1e9 is left out.
        student_scores: Float tensor of the same shape: logits.
        top_k: Number K of items that count as liked.
        position_decay: Ranks over which the weight falls to 1/e.
        dynamic: Whether to weigh by how far behind the student ranks an
            item, among all items not left out. The weights then sum to less
            than 1, and to 0 for a student that agrees.
        discrepancy: How fast that weight grows with the ranks between.

    Returns:
        Float32 tensor of shape `(batch, ...)`; 0 where all are left out.

    Raises:
        ValueError: If there are fewer than `top_k` items.

    Example:

    ```python
    kd.losses.ranking([[3.0, 2.0, 1.0]], [[0.0, 0.0, 9.0]], top_k=2)   # ln 2
    ```
    """
    teacher = ops.cast(teacher_scores, "float32")
    student = ops.cast(student_scores, "float32")
    _check(teacher.shape, top_k)
    best, items = ops.top_k(teacher, top_k)
    open_ = best > _LEFT_OUT
    scores, weights = _liked(student, items, open_, position_decay)
    if dynamic:
        behind = _ranks(student, teacher > _LEFT_OUT, scores, top_k)
        behind = behind - ops.arange(top_k, dtype="float32")
        weights = weights * ops.tanh(discrepancy * ops.maximum(behind, 0.0))
    return ops.sum(weights * ops.softplus(-scores), axis=-1)


def _liked(student, items, open_, position_decay):
    """Returns the student's scores of the items, best first, and weights."""
    scores = ops.take_along_axis(student, items, axis=-1)
    scores = ops.where(open_, scores, 0.0)
    ranks = ops.arange(items.shape[-1], dtype="float32")
    weights = ops.where(open_, ops.exp(-ranks / position_decay), 0.0)
    # The first rank has weight 1, unless all are left out.
    total = ops.sum(weights, axis=-1, keepdims=True)
    return scores, weights / ops.maximum(total, 1.0)


def _ranks(student, open_, scores, top_k):
    """Returns how many items the student prefers to each of `scores`."""
    # One rank at a time: all at once would hold top_k copies of the scores.
    better = [
        ops.logical_and(student > scores[..., r : r + 1], open_)
        for r in range(top_k)
    ]
    return ops.stack(
        [ops.sum(ops.cast(b, "float32"), axis=-1) for b in better], axis=-1
    )


def _check(shape, top_k):
    if shape[-1] is None or shape[-1] < top_k:
        raise ValueError(
            f"Ranking takes the top_k={top_k} best items, so the scores need "
            f"a last axis of at least that many. Received: shape "
            f"{tuple(shape)}. Pass a smaller top_k."
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class Ranking(DistillationLoss):
    """The teacher's best items count as liked (ranking distillation).

    Idea: most items a user has not touched are no negatives. The teacher's top
    K among them become extra positives, the first ranks weighing most; with
    `dynamic` an item's weight goes to 0 as the student ranks it that high
    itself.

        w_r = exp(-r / position_decay), scaled to the sum 1;  r = 0 ... K - 1
        w_r *= max(0, tanh(discrepancy * (rank_student - r)))      (dynamic)
        loss = sum_r w_r * -log sigmoid(student's score of the item at rank r)

    Shapes: scores `(batch, ..., items)` -> values `(batch, ...)`. An item whose
    teacher score is -1e9 or less (-inf too) is left out: set it for items that
    the user is known to like, and for padding.
    Use it: for recommenders and retrieval with many items, beside the label
    loss, which alone supplies negatives.
    Do not: alone (all scores would rise forever); on probabilities: name the
    layer before the sigmoid or softmax; with teacher scores of -inf inside a
    `Distiller`, which refuses infinite targets: use -1e9 there; from a cache
    with `top_k` with `dynamic`, or where all items of a user are left out: it
    does not say which are.
    Suggested: top_k = 10, position_decay = 1, discrepancy = 0.1 and `dynamic`
    after some 10 epochs; alpha = 0.5 (the authors weigh both losses alike).
    Paper: Tang, Wang 2018, https://arxiv.org/abs/1809.07428

    Args:
        top_k: Number of items that count as liked.
        position_decay: Ranks over which the weight falls to 1/e.
        dynamic: Whether to weigh by how far behind the student ranks an item.
        discrepancy: How fast that weight grows with the ranks between.
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.Ranking(top_k=20, dynamic=True)
    ```
    """

    def __init__(
        self,
        top_k: int = 10,
        position_decay: float = 1.0,
        dynamic: bool = False,
        discrepancy: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if int(top_k) != top_k or top_k < 1:
            raise ValueError(
                f"`top_k` must be an integer of at least 1. Received: "
                f"top_k={top_k!r}"
            )
        for name, value in (
            ("position_decay", position_decay),
            ("discrepancy", discrepancy),
        ):
            if not value > 0.0:
                raise ValueError(
                    f"`{name}` must be positive. Received: {name}={value!r}"
                )
        self.top_k = int(top_k)
        self.position_decay = position_decay
        self.dynamic = dynamic
        self.discrepancy = discrepancy

    @property
    def accepts_sparse(self):
        # What is left out, `dynamic` must know and a top-k target does not.
        return not self.dynamic

    def call(self, y_true, y_pred):
        if sparse.is_sparse(y_true):
            return self._of_top_k(y_true, ops.cast(y_pred, "float32"))
        return ranking(
            y_true,
            y_pred,
            self.top_k,
            self.position_decay,
            self.dynamic,
            self.discrepancy,
        )

    def _of_top_k(self, target, student):
        kept = target["ids"].shape[-1]
        if "log_probs" not in target or kept < self.top_k:
            raise ValueError(
                f"Ranking takes the top_k={self.top_k} best items in their "
                f"order. Expected a cache of at least as large a `top_k`. "
                f"Received: {sorted(target)} of {kept} items"
            )
        items = ops.cast(target["ids"], "int32")[..., : self.top_k]
        log_probs = target["log_probs"][..., : self.top_k]
        open_ = log_probs > _LEFT_OUT_OF_TOP_K
        scores, weights = _liked(student, items, open_, self.position_decay)
        return ops.sum(weights * ops.softplus(-scores), axis=-1)

    def check_shapes(self, teacher_shape: Shape, student_shape: Shape) -> None:
        super().check_shapes(teacher_shape, student_shape)
        for shape in filter(None, (teacher_shape, student_shape)):
            _check(shape, self.top_k)
