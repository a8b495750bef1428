# SPDX-License-Identifier: Apache-2.0
"""Lengths and directions of vectors, with finite gradients at zero.

`keras.ops.normalize` and `keras.ops.norm` have a gradient of NaN at a zero
vector where XLA compiles them. Zero vectors are common: padding, a channel
behind a ReLU, the difference of an example and its duplicate.
"""

from __future__ import annotations

from keras import ops

_TINY = 1e-30  # of a squared length; a normal float32


def lengths(vectors):
    """Returns Euclidean lengths along the last axis, which is kept.

    The gradient is 0 at a zero vector.
    """
    squared, known = _squared(vectors)
    return ops.where(known, ops.sqrt(squared), 0.0)


def directions(vectors):
    """Returns vectors of the last axis divided by their lengths.

    Zero vectors stay zero, and the gradient is 0 there.
    """
    squared, known = _squared(vectors)
    return ops.where(known, vectors * ops.rsqrt(squared), 0.0)


def _squared(vectors):
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    known = squared > _TINY
    # Replaced before the root is taken: `where` alone would still multiply
    # the infinite slope of the branch not taken by 0.
    return ops.where(known, squared, 1.0), known
