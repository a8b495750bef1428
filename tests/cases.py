# SPDX-License-Identifier: Apache-2.0
"""One row per method: how to make it, its twin, and what to check it with.

A new method adds one row (or more, for other shapes) and its twin in
`reference.py`; the contract tests do the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

import reference
from keras_kd import losses


@dataclasses.dataclass(frozen=True)
class Case:
    """A method with settings.

    Args:
        method: Class of the loss.
        reference: Its twin with the same settings, `(teacher, student)` (or
            `(teacher, student, labels)`) to values by example.
        arguments: Constructor arguments, not all of them defaults.
        checks: Other arguments of `check_loss`: shapes, flags.
        note: What the row is about, for the test's name.
    """

    method: type
    reference: Callable
    arguments: dict = dataclasses.field(default_factory=dict)
    checks: dict = dataclasses.field(default_factory=dict)
    note: str = ""

    def __str__(self):
        return "-".join(filter(None, [self.method.__name__, self.note]))


CASES = (
    Case(
        losses.FeatureMatching,
        reference.feature_matching,
        {"teacher": "conv_4", "student": "conv_2", "weight": 2.0},
        {"teacher_shape": (4, 3, 3, 2)},
        "maps",
    ),
    Case(
        losses.FeatureMatching,
        reference.feature_matching,
        {"projector": None},
        {"teacher_shape": (6, 5)},
        "vectors",
    ),
    Case(losses.SoftTargets, reference.soft_targets),
    Case(
        losses.SoftTargets,
        lambda t, s: reference.soft_targets(t, s, temperature=2.5),
        {"temperature": 2.5, "name": "soft", "weight": 0.5},
        {
            "teacher_shape": (4, 3, 5),
            "mask": np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]]),
        },
        "sequences",
    ),
    Case(
        losses.SoftTargets,
        lambda t, s: reference.soft_targets(t, s, 2.0, "reverse_kl"),
        {"temperature": 2.0, "divergence": "reverse_kl"},
        note="reverse_kl",
    ),
    Case(
        losses.SoftTargets,
        lambda t, s: reference.soft_targets(t, s, 4.0, "jensen_shannon", 0.1),
        {"divergence": "jensen_shannon", "beta": 0.1},
        note="jensen_shannon",
    ),
)
