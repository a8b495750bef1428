# SPDX-License-Identifier: Apache-2.0
"""Projector: brings a student tap to the shape of a teacher tap."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_kd.core.type_aliases import Shape


@keras.saving.register_keras_serializable(package="keras_kd")
class Projector(keras.layers.Layer):
    """A learned linear map between taps of different shapes.

    Width, rank and spatial size may differ:

    - a map with more spatial axes than the target is averaged over them
      (`(batch, 8, 8, 16)` to `(batch, 64)`);
    - a vector is repeated over the target's positions (a length of `None`
      stays 1);
    - a map `(batch, h, w, c)` and a sequence `(batch, h * w, d)` are the same
      positions in row order;
    - other sizes are resized bilinearly;
    - the width is matched by a dense layer on the last axis (a 1x1
      convolution), at the smaller of the two sizes.

    The distiller trains it with the student; it is not part of the student.

    Args:
        target_shape: Shape of the teacher's tap without the batch axis,
            `None` for axes of unknown length (left as they are).

    Reference: https://arxiv.org/abs/1412.6550 (the regressor of FitNets)

    Example:

    ```python
    projector = kd.Projector((4, 4, 64))
    projector(keras.ops.ones((2, 8, 8, 16))).shape      # (2, 4, 4, 64)
    ```
    """

    def __init__(self, target_shape: Shape, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)
        if not self.target_shape or self.target_shape[-1] is None:
            raise ValueError(
                "`target_shape` must end in a known number of features. "
                f"Received: target_shape={self.target_shape}"
            )

    def build(self, input_shape):
        sizes, target = tuple(input_shape[1:-1]), self.target_shape[:-1]
        known = None not in sizes and None not in target
        alike = len(sizes) == len(target) and all(
            size is not None or wanted is None
            for size, wanted in zip(sizes, target, strict=True)
        )
        repeats = not sizes
        reshapes = (
            known
            and 2 in (len(sizes), len(target))
            and _product(sizes) == _product(target)
        )
        if not (alike or repeats or reshapes or not target):
            raise ValueError(
                "A projector cannot bring positions "
                f"{sizes} to positions {target}: their number of axes "
                "differs, or a length is not known. Pool one of the taps, or "
                "pass your own layer as `projector`. Received: student tap of "
                f"shape {tuple(input_shape)}, teacher tap of shape "
                f"{(None, *self.target_shape)}."
            )
        if input_shape[-1] is None:
            raise ValueError(
                "A projector needs a student tap with a known number of "
                f"features. Received: shape {tuple(input_shape)}"
            )
        width = self.target_shape[-1]
        self.dense = None
        if input_shape[-1] != width:
            self.dense = keras.layers.Dense(
                width, use_bias=False, name="dense", dtype=self.dtype_policy
            )
            self.dense.build(input_shape)

    def call(self, inputs):
        target = self.target_shape[:-1]
        sizes = tuple(inputs.shape[1:-1])
        grows = _product(target) > _product(sizes)
        if not grows:
            inputs = _to_positions(inputs, target)
        if self.dense is not None:
            inputs = self.dense(inputs)
        return _to_positions(inputs, target) if grows else inputs

    def compute_output_shape(self, input_shape):
        known = self.target_shape[:-1]
        sizes = input_shape[1:-1]
        if len(sizes) == len(known):
            pairs = zip(known, sizes, strict=True)
            known = tuple(s if k is None else k for k, s in pairs)
        return (input_shape[0], *known, self.target_shape[-1])

    def get_config(self):
        return {**super().get_config(), "target_shape": self.target_shape}


def _product(sizes) -> int:
    return math.prod(size or 1 for size in sizes)


def _to_positions(x, target):
    """Brings the axes between batch and features to the sizes `target`."""
    sizes = tuple(x.shape[1:-1])
    if not target:
        return ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))
    if not sizes:
        ones = (1,) * len(target)
        x = ops.reshape(x, (-1, *ones, x.shape[-1]))
        return ops.tile(x, (1, *(size or 1 for size in target), 1))
    if sizes == target or None in target:
        return x
    if len(sizes) != len(target):
        return ops.reshape(x, (-1, *target, x.shape[-1]))
    return resized(x, target, interpolation)


def resized(maps, sizes, matrix: Callable):
    """Returns maps `(batch, *sizes, channels)` of maps of other sizes.

    Each axis is multiplied by `matrix(size, wanted)`, of shape
    `(wanted, size)`, which every compiler takes.

    Args:
        maps: The maps.
        sizes: Whole numbers; tensors where only a step knows them.
        matrix: Such as `interpolation`. It also takes the `keras.ops` to
            compute with, and a dtype, for numbers that a step reads.
    """
    for axis, wanted in enumerate(sizes, start=1):
        size = ops.shape(maps)[axis]
        if isinstance(size, int) and isinstance(wanted, int):
            if size == wanted:
                continue
            weights = matrix(size, wanted)
        else:
            numbers = [ops.cast(n, "float32") for n in (size, wanted)]
            weights = matrix(*numbers, ops, "float32")
        weights = ops.cast(weights, maps.dtype)
        maps = ops.tensordot(maps, weights, axes=([axis], [1]))
        maps = ops.moveaxis(maps, -1, axis)
    return maps


def resized_like(maps, others):
    """Returns maps of the sizes of others, also of sizes known in a step only.

    Both are `(batch, ..., channels)` of one rank.
    """
    return resized(maps, ops.shape(others)[1:-1], interpolation)


def interpolation(size, wanted, xp=np, dtype: str = "float64"):
    """Returns the `(wanted, size)` matrix of antialiased bilinear resizing.

    The same weights as `keras.ops.image.resize(..., antialias=True)`, which
    XLA cannot compile and which knows two spatial axes only.

    Args:
        size: Positions there are, a whole number.
        wanted: Positions there are to be.
        xp: `numpy`, or `keras.ops` for numbers that a step reads.
        dtype: Of the matrix.
    """
    centres = (xp.arange(wanted, dtype=dtype) + 0.5) * size / wanted - 0.5
    distances = xp.abs(xp.arange(size, dtype=dtype) - centres[:, None])
    weights = xp.maximum(0.0, 1.0 - distances / xp.maximum(1.0, size / wanted))
    return weights / xp.sum(weights, axis=1, keepdims=True)
