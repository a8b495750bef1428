# SPDX-License-Identifier: Apache-2.0
"""Kinds: what each layer class does with channels, and where they lie.

Classes are compared exactly, never by inheritance: a subclass may do with
its channels whatever it likes.
"""

from __future__ import annotations

from keras import activations
from keras import layers


def of_each_rank(*names: str) -> tuple[type, ...]:
    """Returns the classes `Name1D`, `Name2D` and `Name3D`, where they are."""
    found = (f"{name}{rank}D" for name in names for rank in (1, 2, 3))
    return tuple(vars(layers)[name] for name in found if name in vars(layers))


CONVOLUTIONS = of_each_rank("Conv")
TRANSPOSED = tuple(vars(layers)[f"Conv{rank}DTranspose"] for rank in (1, 2, 3))
SEPARABLE = of_each_rank("SeparableConv")
DEPTHWISE = of_each_rank("DepthwiseConv")

FILTERING = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE)
PRODUCERS = (*FILTERING, layers.Dense, layers.Embedding)
"""Layers whose output channels are their own."""

FOLLOWERS = (
    *(layers.Activation, layers.ELU, layers.LeakyReLU, layers.PReLU),
    *(layers.ReLU, layers.BatchNormalization, layers.Identity),
    *(layers.AlphaDropout, layers.Dropout, *of_each_rank("SpatialDropout")),
    *(layers.GaussianDropout, layers.GaussianNoise, layers.Softmax),
    *of_each_rank("AveragePooling", "MaxPooling"),
    *of_each_rank("GlobalAveragePooling", "GlobalMaxPooling"),
    *of_each_rank("Cropping", "ZeroPadding", "UpSampling"),
)
"""Layers that treat each channel by itself and keep their order."""

MERGING_OPERATIONS = ("Add", "Maximum", "Minimum", "Multiply", "Subtract")
"""What `x + y` and the like leave in a functional graph."""

MERGES = (*(vars(layers)[n] for n in MERGING_OPERATIONS), layers.Average)

ELEMENTWISE = tuple(
    vars(activations)[name]
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu "
        "hard_tanh leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid "
        "silu soft_shrink softplus softsign sparse_plus sparse_sigmoid "
        "squareplus tanh tanh_shrink threshold"
    ).split()
)

_BIAS = {"bias": {-1: "out"}}
_PER_CHANNEL = dict.fromkeys(
    ("gamma", "beta", "moving_mean", "moving_variance"), {-1: "out"}
)
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
    **dict.fromkeys(FILTERING, "filters"),
    layers.Dense: "units",
    layers.Embedding: "output_dim",
}
"""The constructor argument that counts a producer's channels."""
