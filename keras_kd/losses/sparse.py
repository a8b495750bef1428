# SPDX-License-Identifier: Apache-2.0
"""Sparse targets: soft targets that hold a few classes instead of all.

With 1,000 classes and more, nearly all of a stored soft target is noise. Two
formats leave it out. A sparse target is a dict with exactly these keys:

    top-k:    ids, log_probs (batch, ..., k), tail (batch, ..., 5)
    sampled:  ids, weights (batch, ..., n), temperature (batch, ...)

Top-k alone would tell the student that all other classes are impossible.
So they stay in the target as one event, "another class", and

    loss = T^2 * KL(p || q) over k + 1 events.

The k log-probabilities at T = 1 give those at any T, if the mass of the
others is known there. `tail` holds its logarithm at the five temperatures
of `GRID`: f(b) = log sum_others exp(b * log p), b = 1 / T. That is smooth in
b, so a polynomial through the five points gives it between them. Below
T = 1 it is f(1) * b, which is exact for one other class and else too large.

Sampled: the weights are the shares of each class among n draws from the
teacher's probabilities at T, unbiased but noisy, and

    loss = -T^2 * sum_drawn weight * log q.

That is a cross-entropy: the gradient is on average that of T^2 KL(p || q),
the value is higher by T^2 times the teacher's entropy, which is not known.

Use it: top-k by default; sampled with 100,000 classes and flat targets.
Paper: Anshumann et al. 2025, https://arxiv.org/abs/2503.16870
"""

from __future__ import annotations

import math

import numpy as np
from keras import ops

GRID = (1.0, 2.0, 4.0, 8.0, 20.0)
"""Temperatures at which `tail` holds the log-mass of the other classes."""

_TOP_K = {"ids", "log_probs", "tail"}
_SAMPLED = {"ids", "weights", "temperature"}


def is_sparse(target) -> bool:
    """Whether a target is a sparse one: a dict with the keys of a format."""
    return isinstance(target, dict) and set(target) in (_TOP_K, _SAMPLED)


def sparse_loss(target: dict, student_logits, temperature=4.0):
    """Returns the soft-target loss of a sparse target of either format.

    Args:
        target: A sparse target.
        student_logits: Float tensor of shape `(batch, ..., classes)`.
        temperature: Softening T > 0, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`. It is NaN, with a gradient of
        zero, where a sampled target was drawn at another temperature.

    Raises:
        ValueError: If `target` is not sparse.
    """
    _check_sparse(target)
    if set(target) == _TOP_K:
        return sparse_soft_targets(
            **target, student_logits=student_logits, temperature=temperature
        )
    values = sampled_soft_targets(
        target["ids"], target["weights"], student_logits, temperature
    )
    # Not `values * nan`: that would reach the student's weights.
    return ops.where(differs(target, temperature), math.nan, values)


def sparse_soft_targets(ids, log_probs, tail, student_logits, temperature=4.0):
    """Returns `T^2 KL(teacher || student)` over k classes and "another".

    Args:
        ids: Int tensor of shape `(batch, ..., k)`: distinct class ids.
        log_probs: Float tensor of that shape: the teacher's
            log-probabilities of them at T = 1.
        tail: Float tensor of shape `(batch, ..., 5)`; see the module.
        student_logits: Float tensor of shape `(batch, ..., classes)`.
        temperature: Softening T > 0, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`, in nats times T^2. It is the
        dense loss but for how the mass of the other classes is spread, so
        at most the dense loss, and equal to it at k = classes - 1.

    Example:

    ```python
    from keras_kd.targets.store.encodings import TopK
    from keras_kd.losses.sparse import sparse_soft_targets

    target = TopK(k=1).target(TopK(k=1).fields([[9.0, 1.0, 0.0]]))
    sparse_soft_targets(**target, student_logits=[[2.0, 0.0, 0.0]])
    ```
    """
    p, q = sparse_events(ids, log_probs, tail, student_logits, temperature)
    temperature = ops.cast(temperature, "float32")
    return ops.square(temperature) * ops.sum(ops.exp(p) * (p - q), axis=-1)


def sparse_events(ids, log_probs, tail, student_logits, temperature=4.0):
    """Returns the log-probabilities of k classes and "another class".

    For divergences other than that of `sparse_soft_targets`, with the same
    arguments.

    Returns:
        The teacher's and the student's, each `(batch, ..., k + 1)`, float32.
    """
    temperature = ops.cast(temperature, "float32")
    tail = _tail_at(ops.cast(tail, "float32"), temperature)
    teacher = ops.cast(log_probs, "float32") / temperature
    student = ops.cast(student_logits, "float32") / temperature
    ids = ops.cast(ids, "int32")
    # The student's other classes are summed up one by one. One minus the sum
    # of the k would be 0, and its logarithm infinite, as soon as the student
    # is sure of them.
    named = _scatter(ids, ops.ones_like(teacher), student.shape[-1]) > 0.0
    others = ops.logsumexp(ops.where(named, -math.inf, student), axis=-1)
    student = ops.take_along_axis(student, ids, axis=-1)
    return tuple(
        ops.log_softmax(ops.concatenate([top, rest[..., None]], axis=-1))
        for top, rest in ((teacher, tail), (student, others))
    )


def sampled_soft_targets(ids, weights, student_logits, temperature=1.0):
    """Returns `T^2` times the cross-entropy with sampled classes.

    Args:
        ids: Int tensor of shape `(batch, ..., n)`: classes drawn from the
            teacher's probabilities at this temperature.
        weights: Float tensor of that shape: how often each was drawn, up to
            a factor; 0 for padding.
        student_logits: Float tensor of shape `(batch, ..., classes)`.
        temperature: T of the draws, a number or scalar tensor.

    Returns:
        Float32 tensor of shape `(batch, ...)`; see the module for what the
        value means.

    Reference: https://arxiv.org/abs/2503.16870
    """
    temperature = ops.cast(temperature, "float32")
    weights = ops.cast(weights, "float32")
    weights = weights / ops.sum(weights, axis=-1, keepdims=True)
    log_q = ops.log_softmax(ops.cast(student_logits, "float32") / temperature)
    log_q = ops.take_along_axis(log_q, ops.cast(ids, "int32"), axis=-1)
    return -ops.square(temperature) * ops.sum(weights * log_q, axis=-1)


def differs(target: dict, temperature):
    """Tells where a sparse target cannot be used at a temperature.

    Returns:
        Boolean tensor of shape `(batch, ...)`. A top-k target serves every
        temperature, a sampled one only that of its draws.
    """
    _check_sparse(target)
    if set(target) == _TOP_K:
        return ops.zeros_like(target["ids"][..., 0], dtype="bool")
    drawn_at = ops.cast(target["temperature"], "float32")
    difference = ops.abs(ops.cast(temperature, "float32") - drawn_at)
    return difference > 1e-3 * drawn_at


def top_class(target):
    """Returns the likeliest class `(batch, ...)` of a target, also a dense one.

    Args:
        target: A sparse target, or class scores `(batch, ..., classes)`.
    """
    if not is_sparse(target):
        return ops.argmax(target, axis=-1)
    values = target["log_probs" if set(target) == _TOP_K else "weights"]
    best = ops.argmax(values, axis=-1)[..., None]
    return ops.take_along_axis(target["ids"], best, axis=-1)[..., 0]


def to_dense(target: dict, classes: int):
    """Returns logits for a loss that cannot take a sparse target.

    The mass of the other classes is spread evenly. Exact at T = 1 for the k
    classes; at a higher T the others, equal among themselves, get more than
    they had.

    Args:
        target: A top-k target.
        classes: Number of classes, above k.

    Returns:
        Float32 tensor of shape `(batch, ..., classes)`: log-probabilities.

    Raises:
        ValueError: If `target` is a sampled one, or not sparse.
    """
    _check_sparse(target)
    if set(target) == _SAMPLED:
        raise ValueError(
            "A sampled target says nothing about classes that were not drawn, "
            "so it has no logits. Use SoftTargets, or a cache with `top_k` or "
            "with dense targets."
        )
    ids, log_probs, tail = (target[k] for k in ("ids", "log_probs", "tail"))
    log_probs = ops.cast(log_probs, "float32")
    number = classes - log_probs.shape[-1]
    others = ops.cast(tail, "float32")[..., :1] - math.log(number)
    named = _scatter(ids, ops.ones_like(log_probs), classes) > 0.0
    return ops.where(named, _scatter(ids, log_probs, classes), others)


def _tail_at(tail, temperature):
    # Through the five points, by Lagrange. The last one is stored and not
    # taken as log(number of others), its value at b = 0: where masked classes
    # have logits like -1e9, f jumps between there and any real temperature.
    points = 1.0 / np.array(GRID, "float32")
    steepness = 1.0 / temperature
    b = ops.minimum(steepness, 1.0)
    weights = []
    for i, point in enumerate(points):
        others = np.delete(points, i)
        weights.append(ops.prod((b - others) / (point - others)))
    inside = ops.sum(ops.stack(weights) * tail, axis=-1)
    return inside * ops.maximum(steepness, 1.0)


def _scatter(ids, values, classes):
    """Puts `(..., k)` values at their ids in zeros `(..., classes)`."""
    shape = ops.shape(values)
    values = ops.reshape(values, (-1, shape[-1]))
    ids = ops.reshape(ops.cast(ids, "int32"), (-1, shape[-1]))
    rows = ops.shape(ids)[0]
    places = ops.broadcast_to(ops.arange(rows)[:, None], ops.shape(ids))
    places = ops.stack([places, ids], axis=-1)
    dense = ops.scatter(
        ops.reshape(places, (-1, 2)),
        ops.reshape(values, (-1,)),
        (rows, classes),
    )
    return ops.reshape(dense, (*shape[:-1], classes))


def _check_sparse(target):
    if not is_sparse(target):
        keys = sorted(target) if isinstance(target, dict) else type(target)
        raise ValueError(
            "A sparse target must be a dict with exactly the keys "
            f"{sorted(_TOP_K)} or {sorted(_SAMPLED)}. Received: {keys}"
        )
