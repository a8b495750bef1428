# SPDX-License-Identifier: Apache-2.0
"""PyTorch twins of models in `_pairs.py`: layer for layer, weight for weight.

Strided convolutions pad by 1 on all sides where Keras pads the bottom and the
right only: other numbers at the rim, the same arithmetic.
"""

from __future__ import annotations

import torch
from _pairs import CLASSES
from _pairs import LENGTH
from _pairs import WORDS
from torch import nn


def convolution(
    inputs: int, filters: int, strides: int = 1, padding: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, filters, 3, strides, padding, bias=False),
        nn.BatchNorm2d(filters, eps=1e-3),
        nn.ReLU(),
    ]


def cnn_teacher() -> nn.Module:
    return nn.Sequential(
        *convolution(1, 32),
        nn.MaxPool2d(2),
        *convolution(32, 64),
        nn.MaxPool2d(2),
        *convolution(64, 128),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(128 * 3 * 3, 160),
        nn.ReLU(),
        nn.Dropout(0.4),
        nn.Linear(160, CLASSES),
    )


def cnn_student() -> nn.Module:
    return nn.Sequential(
        *convolution(1, 16, 2),
        *convolution(16, 32, 2),
        *convolution(32, 28, 2, padding=0),
        nn.Flatten(),
        nn.Linear(28 * 3 * 3, CLASSES),
    )


def depthwise_student() -> nn.Module:
    blocks, inputs = [], 16
    for filters, step in ((32, 2), (48, 1), (48, 2)):
        blocks += [
            nn.Conv2d(inputs, inputs, 3, step, 1, groups=inputs, bias=False),
            nn.Conv2d(inputs, filters, 1, bias=False),
            nn.BatchNorm2d(filters, eps=1e-3),
            nn.ReLU(),
        ]
        inputs = filters
    return nn.Sequential(
        *convolution(1, 16, 2),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, CLASSES),
    )


def mlp(*units: int) -> nn.Module:
    layers, inputs = [nn.Flatten()], 28 * 28
    for count in units:
        layers += [nn.Linear(inputs, count), nn.ReLU()]
        inputs = count
    return nn.Sequential(*layers, nn.Linear(inputs, CLASSES))


class Transformer(nn.Module):
    """An encoder over word ids `(batch, 32)` with a class on top."""

    def __init__(self, width: int, heads: int, depth: int):
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        self.places = nn.Parameter(torch.zeros(LENGTH, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width,
                    heads,
                    4 * width,
                    dropout=0.0,
                    activation="gelu",
                    layer_norm_eps=1e-3,
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(depth)
            )
        )
        self.normal = nn.LayerNorm(width, eps=1e-3)
        self.classes = nn.Linear(width, CLASSES)

    def forward(self, words):
        x = self.blocks(self.words(words) + self.places)
        return self.classes(self.normal(x).mean(dim=1))
