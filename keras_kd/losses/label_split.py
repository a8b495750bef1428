# SPDX-License-Identifier: Apache-2.0
"""The label and the rest: a distribution taken apart at the true class."""

from __future__ import annotations

from keras import ops

# Its exp is 0, yet it is finite: with one class there is no rest, and the
# difference of two infinities is NaN.
_NEVER = -3e38


def is_label(labels, logits):
    """Returns which class of each example is its label.

    Args:
        labels: Class ids `(batch, ...)` or `(batch, ..., 1)`, as integers or
            floats. An id that is not a class, such as -1, means no label.
        logits: Tensor of shape `(batch, ..., classes)`.

    Returns:
        Booleans of shape `(batch, ..., classes)`.

    Raises:
        ValueError: If the shape of the labels is another, as of one-hot ones.
    """
    labels, logits = map(ops.convert_to_tensor, (labels, logits))
    rank = len(logits.shape)
    if len(labels.shape) == rank and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != rank - 1:
        raise ValueError(
            "Labels must be class ids, of the logits' shape without the "
            f"classes. Received: labels of shape {tuple(labels.shape)}, "
            f"logits of shape {tuple(logits.shape)}. Turn one-hot labels into "
            "ids with keras.ops.argmax(labels, axis=-1)."
        )
    labels = ops.expand_dims(ops.cast(labels, "int32"), axis=-1)
    return ops.equal(labels, ops.arange(logits.shape[-1], dtype="int32"))


def split_at_label(logits, at_label, temperature=1.0):
    """Returns the label's share, the rest's, and what the rest looks like.

    All in log space, so that nothing is clipped or lost where a network is
    certain.

    Args:
        logits: Float tensor of shape `(batch, ..., classes)`.
        at_label: What `is_label` returned.
        temperature: What the logits are divided by.

    Returns:
        Three tensors: `log p_y` and `log(1 - p_y)` of shape `(batch, ...)`,
        and `log(p_i / (1 - p_y))` of shape `(batch, ..., classes)`. The last
        is 0 at the label, so that the label adds nothing to a sum of
        `p * log q` or of `p * (log p - log q)`.
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32") / temperature)
    label = ops.sum(ops.where(at_label, log_p, 0.0), axis=-1)
    rest = ops.logsumexp(ops.where(at_label, _NEVER, log_p), axis=-1)
    others = log_p - ops.expand_dims(rest, axis=-1)
    return label, rest, ops.where(at_label, 0.0, others)


def where_labelled(values, at_label):
    """Returns the values, 0 for an example without a label."""
    return ops.where(ops.any(at_label, axis=-1), values, 0.0)
