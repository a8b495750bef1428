# SPDX-License-Identifier: Apache-2.0
"""Folding: a layer and the batch normalisation after it become one layer.

LiteRT's converter does it too. It has to come before the rounding, or other
weights would be trained than those that are shipped.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers


def fold(layer: layers.Layer, norm: layers.BatchNormalization):
    """Returns the kernel and bias of a layer that does what both do.

    The layer has a linear activation; of the norm, which is of the last
    axis, the moving averages are used, as in inference.
    """
    numpy = keras.ops.convert_to_numpy
    factor = 1.0 / np.sqrt(numpy(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        factor = factor * numpy(norm.gamma)
    bias = numpy(layer.bias) if layer.use_bias else 0.0
    bias = (bias - numpy(norm.moving_mean)) * factor
    if norm.center:
        bias = bias + numpy(norm.beta)
    kernel = numpy(layer.kernel)
    if isinstance(layer, layers.DepthwiseConv2D):
        kernel = kernel * factor.reshape(kernel.shape[-2:])
    elif isinstance(layer, layers.Conv2DTranspose):
        kernel = kernel * factor[:, None]
    else:
        kernel = kernel * factor
    return kernel, bias
