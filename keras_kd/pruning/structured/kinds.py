# SPDX-License-Identifier: Apache-2.0
"""Kinds: what each layer class does with channels, and where they lie.

Classes are compared exactly, never by inheritance: a subclass may do with
its channels whatever it likes.
"""

from __future__ import annotations

from keras import activations
from keras import layers

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)

PRODUCERS = (
    *CONVOLUTIONS,
    *TRANSPOSED,
    *SEPARABLE,
    layers.Dense,
    layers.Embedding,
)
"""Layers whose output channels are their own."""

FOLLOWERS = (
    layers.Activation,
    layers.ELU,
    layers.Identity,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ReLU,
    layers.BatchNormalization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
)
"""Layers that treat each channel by itself and keep their order."""

MERGES = (
    layers.Add,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.Subtract,
)
MERGING_OPERATIONS = ("Add", "Maximum", "Minimum", "Multiply", "Subtract")
"""What `x + y` and the like leave in a functional graph."""

ELEMENTWISE = (
    activations.celu,
    activations.elu,
    activations.exponential,
    activations.gelu,
    activations.hard_shrink,
    activations.hard_sigmoid,
    activations.hard_silu,
    activations.hard_tanh,
    activations.leaky_relu,
    activations.linear,
    activations.log_sigmoid,
    activations.mish,
    activations.relu,
    activations.relu6,
    activations.selu,
    activations.sigmoid,
    activations.silu,
    activations.soft_shrink,
    activations.softplus,
    activations.softsign,
    activations.sparse_plus,
    activations.sparse_sigmoid,
    activations.squareplus,
    activations.tanh,
    activations.tanh_shrink,
    activations.threshold,
)

_BIAS = {"bias": {-1: "out"}}
_PER_CHANNEL = {
    name: {-1: "out"}
    for name in ("gamma", "beta", "moving_mean", "moving_variance")
}
WEIGHTS = {
    **dict.fromkeys(
        (*CONVOLUTIONS, layers.Dense),
        {"kernel": {-2: "in", -1: "out"}, **_BIAS},
    ),
    **dict.fromkeys(TRANSPOSED, {"kernel": {-2: "out", -1: "in"}, **_BIAS}),
    **dict.fromkeys(
        SEPARABLE,
        {
            "depthwise_kernel": {-2: "in"},
            "pointwise_kernel": {-2: "wide", -1: "out"},
            **_BIAS,
        },
    ),
    **dict.fromkeys(DEPTHWISE, {"kernel": {-2: "in"}, **_BIAS}),
    layers.Embedding: {"embeddings": {-1: "out"}},
    layers.BatchNormalization: _PER_CHANNEL,
    layers.PReLU: {"alpha": {-1: "out"}},
}
"""For each class, its weights and what their axes count: channels that come
`"in"`, go `"out"`, or lie between the two steps of a separable convolution
(`"wide"`)."""

SIZES = {
    **dict.fromkeys((*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE), "filters"),
    layers.Dense: "units",
    layers.Embedding: "output_dim",
}
"""The constructor argument that counts a producer's channels."""
