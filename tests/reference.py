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


def kl(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def soft_targets(
    teacher, student, temperature=4.0, divergence="forward_kl", beta=0.5
):
    """Hinton et al. 2015: T^2 KL(p || q), summed over classes.

    Agarwal et al. 2023: also KL(q || p), and for their mixture m
    beta KL(p || m) + (1 - beta) KL(q || m).
    """
    p = log_softmax(teacher / temperature)
    q = log_softmax(student / temperature)
    m = np.log(beta * np.exp(p) + (1 - beta) * np.exp(q))
    return (
        temperature**2
        * {
            "forward_kl": kl(p, q),
            "reverse_kl": kl(q, p),
            "jensen_shannon": beta * kl(p, m) + (1 - beta) * kl(q, m),
        }[divergence]
    )


def bernoulli_targets(teacher, student, temperature=4.0):
    """The same between yes/no units, one value per unit."""
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * kl


def feature_matching(teacher, student):
    """Romero et al. 2014: mean squared error over an example's features."""
    flat = (teacher - student).reshape(len(teacher), -1)
    return np.square(flat).mean(axis=1)
