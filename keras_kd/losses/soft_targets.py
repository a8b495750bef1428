# SPDX-License-Identifier: Apache-2.0
"""Soft targets: the student matches the teacher's softened probabilities."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_kd.core.scalars import Scalar
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor
from keras_kd.losses import sparse
from keras_kd.losses.base import DistillationLoss


def soft_targets(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: ScalarLike = 4.0,
    divergence: str = "forward_kl",
    beta: float = 0.5,
) -> Tensor:
    """Returns `T^2 KL(teacher || student)` of softened probabilities.

    Args:
        teacher_logits: Float tensor of shape `(batch, ..., classes)`.
        student_logits: Float tensor of the same shape.
        temperature: Softening T > 0, a number or scalar tensor.
        divergence: `"forward_kl"`, `"reverse_kl"` or `"jensen_shannon"`.
        beta: The teacher's share in the mixture of `"jensen_shannon"`,
            strictly between 0 and 1.

    Returns:
        Float32 tensor of shape `(batch, ...)`: one value per example, in
        nats times T^2, summed over classes.

    Raises:
        ValueError: If `divergence` or `beta` is not one of the above.

    Example:

    ```python
    kd.losses.soft_targets([[9.0, 1.0]], [[2.0, 0.0]], temperature=2.0)
    ```
    """
    _check(divergence, beta)
    temperature = ops.cast(temperature, "float32")
    # log_softmax in float32, never log(clipped softmax): a clipped KL stops
    # growing, and its gradient vanishes, where the student is most wrong.
    teacher = ops.log_softmax(ops.cast(teacher_logits, "float32") / temperature)
    student = ops.log_softmax(ops.cast(student_logits, "float32") / temperature)
    between = _DIVERGENCES[divergence](teacher, student, beta)
    return ops.square(temperature) * between


def _kl(p, q, _=None):
    return ops.sum(ops.exp(p) * (p - q), axis=-1)


def _reverse_kl(p, q, _):
    return _kl(q, p)


def _jensen_shannon(p, q, beta):
    # Not ops.logaddexp: its gradient is wrong where both parts are equal.
    parts = ops.stack([p + math.log(beta), q + math.log1p(-beta)])
    mixture = ops.logsumexp(parts, axis=0)
    return beta * _kl(p, mixture) + (1.0 - beta) * _kl(q, mixture)


_DIVERGENCES = {
    "forward_kl": _kl,
    "reverse_kl": _reverse_kl,
    "jensen_shannon": _jensen_shannon,
}


def _check(divergence, beta):
    if divergence not in _DIVERGENCES:
        raise ValueError(
            f"`divergence` must be one of {list(_DIVERGENCES)}. "
            f"Received: divergence={divergence!r}"
        )
    if not 0.0 < beta < 1.0:
        raise ValueError(
            "`beta` must lie strictly between 0 and 1; its limits are "
            "divergence='forward_kl' (0) and 'reverse_kl' (1). "
            f"Received: beta={beta!r}"
        )


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftTargets(DistillationLoss):
    """The student matches the teacher's softened probabilities.

    Idea: at a temperature T > 1 the teacher's probabilities show which wrong
    classes it finds likely, and the student learns from that too. The factor
    T^2 keeps the gradient at one scale while T changes.

        p = softmax(z_teacher / T),  q = softmax(z_student / T)
        loss = T^2 * KL(p || q),  KL(p || q) = sum_classes p * (log p - log q)

    Two other divergences may take the place of KL(p || q). KL(q || p), the
    reverse, lets a student that cannot hold all of the teacher's modes keep the
    main ones. The generalised Jensen-Shannon divergence of GKD lies between:

        beta * KL(p || m) + (1 - beta) * KL(q || m),
        m = beta * p + (1 - beta) * q

    Shapes: logits `(batch, ..., classes)` -> values `(batch, ...)`.
    Use it: always first; with unlabelled data it is often all there is to do.
    Do not: when the teacher was trained with label smoothing (its wrong-class
    probabilities are flat), or when its classes are not the student's; nor
    Jensen-Shannon with an untrained student: it is bounded, so its gradient
    vanishes where the student is confidently wrong.
    Suggested: T = 4, alpha = 0.7 to 0.9; T = 1 to 2 with many classes. With
    Jensen-Shannon raise the weight: near the teacher it is beta * (1 - beta)
    times KL.
    Paper: Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531

    See also https://arxiv.org/abs/2306.13649 (the other divergences).

    Args:
        temperature: Softening T > 0. Assignable at any time without
            retracing.
        divergence: `"forward_kl"` (Hinton), `"reverse_kl"` or
            `"jensen_shannon"`.
        beta: The teacher's share in the mixture of `"jensen_shannon"`,
            strictly between 0 and 1.
        **kwargs: `teacher`, `student`, `weight`, `name`; see
            `DistillationLoss`.

    Example:

    ```python
    loss = kd.losses.SoftTargets(temperature=4.0)
    loss(teacher_logits, student_logits)
    ```
    """

    logits = True
    accepts_sparse = True
    temperature = Scalar(minimum=0.0, open_minimum=True)

    def __init__(
        self,
        temperature: float = 4.0,
        divergence: str = "forward_kl",
        beta: float = 0.5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check(divergence, beta)
        self.temperature = temperature
        self.divergence = divergence
        self.beta = beta

    def call(self, y_true, y_pred):
        temperature = Scalar.tensor(self, "temperature")
        if sparse.is_sparse(y_true):
            return self._sparse(y_true, y_pred, temperature)
        return soft_targets(
            y_true, y_pred, temperature, self.divergence, self.beta
        )

    def _sparse(self, target, student_logits, temperature):
        if self.divergence == "forward_kl":
            return sparse.sparse_loss(target, student_logits, temperature)
        if "log_probs" not in target:
            raise ValueError(
                "Sampled targets estimate the forward KL divergence only. "
                f"Received: divergence={self.divergence!r}. Use "
                "divergence='forward_kl', or a cache with `top_k`."
            )
        events = sparse.sparse_events(
            **target, student_logits=student_logits, temperature=temperature
        )
        between = _DIVERGENCES[self.divergence](*events, self.beta)
        return ops.square(temperature) * between
