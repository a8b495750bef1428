# SPDX-License-Identifier: Apache-2.0
"""Fake quantisation: floats rounded to what int8 can hold.

The forward pass rounds; the gradient passes as if it had not (straight
through), except where an activation was clipped.
"""

from __future__ import annotations

import keras
from keras import layers
from keras import ops

LEVELS = 127
"""Largest int8 weight; -128 is not used, so that zero is the middle."""

# A range of no width has no scale.
NARROWEST = 1e-6


@ops.custom_gradient
def _rounded(kernel, scale):
    def gradient(*arguments, upstream=None):
        # Nothing is clipped: the scale comes from the largest weight.
        upstream = arguments[0] if upstream is None else upstream
        return upstream, ops.zeros_like(scale)

    return ops.round(kernel / scale) * scale, gradient


def fake_quantize_kernel(kernel, axes):
    """Rounds a kernel to int8, symmetrically, with a scale per channel.

    Written in plain arithmetic, which LiteRT's converter folds into weights
    that it then quantises to these very integers. Of a fake quantisation op
    it would lose track where it transposes the kernel, as it does for Dense.
    `axes` share a scale: all but the channels'.
    """
    largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
    scale = ops.where(largest > 0, largest, ops.ones_like(largest)) / LEVELS
    return _rounded(kernel, ops.stop_gradient(scale))


@keras.saving.register_keras_serializable("keras_kd")
class FakeQuantize(layers.Layer):
    """Rounds activations to int8, over a range that follows the data.

    While training, the range is a moving average of each batch's smallest
    and largest value; otherwise it is fixed. LiteRT's converter takes it
    from here, instead of calibrating.

    Reference: [Jacob et al., 2017](https://arxiv.org/abs/1712.05877).

    Args:
        minimum: Smallest value to begin with. The range always holds zero.
        maximum: Largest value to begin with.
        momentum: Share of the old range in the moving average, in [0, 1];
            1 keeps the range.
        **kwargs: Of `keras.layers.Layer`.

    Example:

    ```python
    FakeQuantize(0.0, 2.55)(np.array([0.004, 0.006, 9.0]))  # 0.0, 0.01, 2.55
    ```
    """

    def __init__(self, minimum=-1.0, maximum=1.0, momentum=0.99, **kwargs):
        super().__init__(**kwargs)
        if not minimum < maximum or not 0.0 <= momentum <= 1.0:
            raise ValueError(
                "`minimum` must be below `maximum`, and `momentum` in [0, 1]. "
                f"Received: minimum={minimum}, maximum={maximum}, "
                f"momentum={momentum}"
            )
        self.minimum = minimum
        self.maximum = maximum
        self.momentum = momentum
        self.observing = False

    def build(self, input_shape):
        ends = {"lowest": self.minimum, "highest": self.maximum}
        for name, value in ends.items():
            variable = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(value),
                trainable=False,
                dtype="float32",
                aggregation="mean",
                autocast=False,
                name=name,
            )
            setattr(self, name, variable)

    def call(self, inputs, training=None):
        x = ops.cast(inputs, "float32")
        if self.observing:
            self._include(x)
            return inputs
        if training and self.momentum < 1.0:
            self._follow(x)
        rounded = keras.quantizers.fake_quant_with_min_max_vars(
            x, self.lowest, self.highest
        )
        return ops.cast(rounded, inputs.dtype)

    def _include(self, x):
        self.lowest.assign(ops.minimum(self.lowest, ops.min(x)))
        highest = ops.maximum(self.highest, ops.max(x))
        self.highest.assign(ops.maximum(highest, self.lowest + NARROWEST))

    def _follow(self, x):
        x = ops.stop_gradient(x)
        for variable, value in (
            (self.lowest, ops.minimum(ops.min(x), 0.0)),
            (self.highest, ops.maximum(ops.max(x), NARROWEST)),
        ):
            old = variable * self.momentum
            variable.assign(old + value * (1.0 - self.momentum))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"minimum": self.minimum, "maximum": self.maximum}
        return {**super().get_config(), **own, "momentum": self.momentum}


@keras.saving.register_keras_serializable("keras_kd")
class FakeQuantizedKernel(layers.Wrapper):
    """Runs a layer as if its kernel were int8.

    The kernel itself stays float and goes on learning.

    Args:
        layer: Dense, Conv1D, Conv2D, Conv2DTranspose or DepthwiseConv2D.
        **kwargs: Of `keras.layers.Layer`.

    Example:

    ```python
    FakeQuantizedKernel(keras.layers.Dense(3))(np.ones((1, 4), "float32"))
    ```
    """

    def call(self, inputs):
        kernel = self.layer.kernel
        axes = shared_axes(self.layer)
        rounded = fake_quantize_kernel(ops.cast(kernel, "float32"), axes)
        # The layer reads its variable; inside the scope it reads this.
        with keras.StatelessScope(state_mapping=[(kernel, rounded)]):
            return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)


def shared_axes(layer: layers.Layer) -> tuple[int, ...]:
    """Returns the axes of a layer's kernel that share one scale."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return (0, 1)  # input channels and their multiples each have one
    if isinstance(layer, layers.Conv2DTranspose):
        return (0, 1, 3)  # its output channels come third
    return tuple(range(len(layer.kernel.shape) - 1))
