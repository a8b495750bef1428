# SPDX-License-Identifier: Apache-2.0
"""ReviewFusion: each stage of a student, told by the deeper ones."""

from __future__ import annotations

import keras
from keras import layers
from keras import ops


@keras.saving.register_keras_serializable(package="keras_kd")
class ReviewFusion(layers.Layer):
    """Brings a student's stages to the teacher's, from deep to shallow.

    A stage is narrowed to `width` channels by a 1x1 convolution. What came
    out of the next deeper stage is brought to its size and added, each of
    the two by a weight for every position (the attention). The sum goes on
    to the next shallower stage and, by a 3x3 convolution, to the teacher's
    width. Sizes are matched by the nearest position.

    Inputs are a list of maps `(batch, height, width, channels)`, the
    shallowest first; a vector `(batch, channels)` is a map of one position.
    Outputs have the shapes of the teacher's taps.

    Args:
        target_shapes: Shapes of the teacher's taps without the batch axis,
            in the order of the inputs.
        width: Channels between the two convolutions; `None` for those of the
            deepest input, at most 512.

    Raises:
        ValueError: If there are not as many inputs as target shapes, or one
            is neither a map nor a vector of known sizes.

    Reference: https://arxiv.org/abs/2104.09044 (section 3.3)
    """

    def __init__(self, target_shapes, width: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.target_shapes = tuple(tuple(shape) for shape in target_shapes)
        self.width = width

    def build(self, input_shapes):
        if len(input_shapes) != len(self.target_shapes):
            raise ValueError(
                "Each tap of the teacher needs one of the student. Received: "
                f"{len(self.target_shapes)} tap(s) of the teacher, "
                f"{len(input_shapes)} of the student."
            )
        inputs = [map_shape("student", shape[1:]) for shape in input_shapes]
        targets = [map_shape("teacher", shape) for shape in self.target_shapes]
        width = self.width or min(512, inputs[-1][-1])
        self.stages = [
            Stage(
                target,
                width,
                fuses=number < len(inputs) - 1,
                name=f"stage_{number}",
                dtype=self.dtype_policy,
            )
            for number, target in enumerate(targets)
        ]
        for stage, shape in zip(self.stages, inputs, strict=True):
            stage.build((None, *shape))

    def call(self, inputs, training=None):
        outputs, deeper = [], None
        steps = zip(inputs, self.target_shapes, self.stages, strict=True)
        for maps, target, stage in reversed(list(steps)):
            shape = map_shape("student", maps.shape[1:])
            maps = ops.reshape(maps, (-1, *shape))
            output, deeper = stage(maps, deeper, training=training)
            outputs.append(ops.reshape(output, (-1, *target)))
        return outputs[::-1]

    def compute_output_shape(self, input_shapes):
        pairs = zip(input_shapes, self.target_shapes, strict=True)
        return [(given[0], *target) for given, target in pairs]

    def get_config(self):
        return {
            **super().get_config(),
            "target_shapes": self.target_shapes,
            "width": self.width,
        }


class Stage(layers.Layer):
    """One step of the fusion: a map and what the deeper stages gave."""

    def __init__(self, target_shape, width: int, fuses: bool, **kwargs):
        super().__init__(**kwargs)
        self.sizes = tuple(target_shape[:-1])
        self.width = width
        self.narrow = self._convolution(width, 1)
        self.widen = self._convolution(target_shape[-1], 3)
        self.attention = None
        if fuses:
            self.attention = layers.Conv2D(
                2, 1, activation="sigmoid", dtype=self.dtype_policy
            )

    def build(self, input_shape):
        sizes = input_shape[1:-1]
        self.narrow.build(input_shape)
        self.widen.build((None, *self.sizes, self.width))
        if self.attention is not None:
            self.attention.build((None, *sizes, 2 * self.width))

    def call(self, maps, deeper=None, training=None):
        """Returns the map for the teacher, and that for the next stage."""
        maps = self.narrow(maps, training=training)
        if deeper is not None:
            deeper = resize_nearest(deeper, maps.shape[1:-1])
            both = ops.concatenate([maps, deeper], axis=-1)
            weights = self.attention(both)
            maps = maps * weights[..., :1] + deeper * weights[..., 1:]
        # The authors hand it on in the teacher's size.
        maps = resize_nearest(maps, self.sizes)
        return self.widen(maps, training=training), maps

    def _convolution(self, filters, size):
        convolution = layers.Conv2D(
            filters,
            size,
            padding="same",
            use_bias=False,
            kernel_initializer="lecun_uniform",
            dtype=self.dtype_policy,
        )
        normalization = layers.BatchNormalization(
            epsilon=1e-5,  # the authors'; Keras' own is 1e-3
            dtype=self.dtype_policy,
        )
        return keras.Sequential([convolution, normalization])


def resize_nearest(maps, sizes):
    """Returns maps `(batch, *sizes, channels)`; XLA can compile it."""
    pairs = zip(maps.shape[1:-1], sizes, strict=True)
    for axis, (size, wanted) in enumerate(pairs, 1):
        if size != wanted:
            nearest = [place * size // wanted for place in range(wanted)]
            maps = ops.take(maps, nearest, axis=axis)
    return maps


def map_shape(whose: str, shape) -> tuple:
    """Returns `(height, width, channels)` of a map or of a vector."""
    if None not in shape and len(shape) in (1, 3):
        return (1, 1, *shape)[-3:]
    raise ValueError(
        "Review needs maps (batch, height, width, channels) of known sizes, "
        f"or vectors (batch, channels). Received: a tap of the {whose} of "
        f"shape {(None, *shape)}. Give the models an Input of fixed size, or "
        "name other layers."
    )
