# SPDX-License-Identifier: Apache-2.0
"""The formula of every loss again, in NumPy float64, from its paper.

Written without a look at the implementation, so that the two can disagree.
A method named `SoftTargets` has its twin in a function `soft_targets`, which
returns one value per example.
"""

from __future__ import annotations

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    return np.exp(log_softmax(logits))


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits))


def soft_targets(teacher, student, temperature=4.0):
    """Hinton et al. 2015: T^2 KL(p || q), summed over classes."""
    p = softmax(teacher / temperature)
    log_ratio = log_softmax(teacher / temperature) - log_softmax(
        student / temperature
    )
    return temperature**2 * (p * log_ratio).sum(axis=-1)


def bernoulli_targets(teacher, student, temperature=4.0):
    """The same between yes/no units, one value per unit."""
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * kl


def feature_matching(teacher, student):
    """Romero et al. 2014: mean squared error over an example's features."""
    flat = (teacher - student).reshape(len(teacher), -1)
    return np.square(flat).mean(axis=1)
