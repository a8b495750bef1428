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


MASK = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
# Class ids of shape (4, 3), each of five classes among them.
IDS = np.arange(12).reshape(4, 3) % 5
# A student that equals the teacher has the teacher's entropy left.
CROSS_ENTROPY = {"zero_at_equal": False}
# Correlations do not shrink with T; the authors multiply by T^2 all the same.
CORRELATION = {"relational": True, "temperature_squared": False}

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
            "mask": MASK,
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
    Case(losses.HardTargets, reference.hard_targets, {}, CROSS_ENTROPY),
    Case(
        losses.HardTargets,
        reference.hard_targets,
        {"weight": 0.5},
        {**CROSS_ENTROPY, "teacher_shape": (4, 3, 5), "mask": MASK},
        "sequences",
    ),
    Case(losses.Decoupled, reference.decoupled),
    Case(
        losses.Decoupled,
        lambda t, s, y: reference.decoupled(t, s, y, 0.5, 2.0, 1.5),
        {"target_weight": 0.5, "non_target_weight": 2.0, "temperature": 1.5},
        {"teacher_shape": (4, 3, 5), "mask": MASK, "labels": IDS},
        "sequences",
    ),
    Case(
        losses.NormalizedTargets,
        reference.normalized_targets,
        {},
        CROSS_ENTROPY,
    ),
    Case(
        losses.NormalizedTargets,
        lambda t, s, y: reference.normalized_targets(t, s, y, 0.7, 3.0),
        {"gamma": 0.7, "temperature": 3.0},
        {
            **CROSS_ENTROPY,
            "teacher_shape": (4, 3, 5),
            "mask": MASK,
            "labels": IDS,
        },
        "sequences",
    ),
    Case(
        losses.Correlation, reference.correlation, {}, CORRELATION, "examples"
    ),
    Case(
        losses.Correlation,
        lambda t, s: reference.correlation(t, s, 4.0, 2.0, 0.5),
        {"temperature": 4.0, "inter_weight": 2.0, "intra_weight": 0.5},
        {
            **CORRELATION,
            "teacher_shape": (4, 3, 5),
            "mask": MASK,
            # At T = 4 probabilities vary so little that the guard shows.
            "zero_at_equal": False,
        },
        "sequences",
    ),
    Case(losses.StandardizedTargets, reference.standardized_targets),
    Case(
        losses.StandardizedTargets,
        lambda t, s, y: reference.standardized_targets(
            t, s, y, inner=reference.decoupled
        ),
        {"loss": losses.Decoupled(), "weight": 9.0},
        note="label_aware",
    ),
    Case(
        losses.StandardizedTargets,
        lambda t, s: reference.standardized_targets(
            t, s, inner=reference.hard_targets
        ),
        {"loss": losses.HardTargets()},
        CROSS_ENTROPY,
        "without_temperature",
    ),
    Case(
        losses.AttentionTransfer,
        reference.attention_transfer,
        {"teacher": "stage_3", "student": "stage_2", "weight": 500.0},
        {"teacher_shape": (4, 3, 3, 2)},
        "maps",
    ),
    Case(
        losses.AttentionTransfer,
        reference.attention_transfer,
        {},
        {
            "teacher_shape": (3, 7, 2, 5),
            "student_shape": (3, 3, 4, 2),
            "zero_at_equal": False,
        },
        "sizes_and_widths",
    ),
    Case(
        losses.SimilarityPreserving,
        reference.similarity_preserving,
        {"weight": 2.0},
        {"relational": True},
        "vectors",
    ),
    Case(
        losses.SimilarityPreserving,
        reference.similarity_preserving,
        {"name": "similar"},
        {
            "teacher_shape": (5, 2, 2, 3),
            "student_shape": (5, 4),
            "zero_at_equal": False,
            "relational": True,
        },
        "any_shapes",
    ),
    Case(
        losses.Relational,
        reference.relational,
        {},
        {"relational": True},
        "vectors",
    ),
    Case(
        losses.Relational,
        lambda t, s: reference.relational(t, s, 3.0, 7.0),
        {"distance_weight": 3.0, "angle_weight": 7.0},
        {
            "teacher_shape": (5, 8),
            "student_shape": (5, 2, 2, 1),
            "zero_at_equal": False,
            "relational": True,
        },
        "any_shapes",
    ),
    Case(
        losses.Relational,
        lambda t, s: reference.relational(t, s, 1.0, 0.0),
        {"distance_weight": 1.0, "angle_weight": 0.0},
        {"relational": True},
        "distances_only",
    ),
    Case(
        losses.Review,
        reference.review,
        {"width": 6, "warm_up_steps": 20, "weight": 5.0},
        {"teacher_shape": (3, 8, 6, 2)},
        "map",
    ),
    Case(
        losses.Review,
        reference.review,
        {
            "teacher": ["stage_2", "pooled"],
            "student": ["stage_1", "pooled"],
            "projector": None,
        },
        {"teacher_shape": (4, 5)},
        "taps",
    ),
    Case(
        losses.Contrastive,
        reference.contrastive,
        {"teacher": "pooled", "negatives": 7, "memory": 24, "tau": 0.1},
        {"student_shape": (6, 2, 8), "zero_at_equal": False},
    ),
    Case(
        losses.Regression,
        reference.regression,
        {"weight": 2.0},
        {"teacher_shape": (4, 3, 2), "mask": MASK},
        "numbers",
    ),
    Case(
        losses.Regression,
        lambda t, s, y: reference.regression(t, s, y, 0.25),
        {"teacher": "box", "student": "box", "margin": 0.25},
        {
            "teacher_shape": (5, 4),
            "labels": np.linspace(-1.0, 1.0, 20).reshape(5, 4),
            "zero_at_equal": False,
        },
        "teacher_bounded",
    ),
    Case(
        losses.ChannelWise,
        reference.channel_wise,
        {},
        {"teacher_shape": (4, 3, 2, 5)},
        "maps",
    ),
    Case(
        losses.ChannelWise,
        lambda t, s: reference.channel_wise(t, s, 1.5),
        {"temperature": 1.5, "projector": None, "weight": 3.0},
        {"teacher_shape": (4, 6, 2)},
        "sequences",
    ),
    Case(
        losses.HiddenStates,
        reference.hidden_states,
        {},
        {"teacher_shape": (4, 3, 5), "mask": MASK},
        "cosine",
    ),
    Case(
        losses.HiddenStates,
        lambda t, s: reference.hidden_states(t, s, "mse"),
        {"teacher": "block_12", "metric": "mse", "projector": None},
        {"teacher_shape": (4, 3, 5), "mask": MASK},
        "mse",
    ),
    Case(
        losses.AttentionMaps,
        reference.attention_maps,
        {},
        {"teacher_shape": (4, 2, 3, 3), "mask": MASK},
        "scores",
    ),
    Case(
        losses.AttentionMaps,
        reference.attention_maps,
        {"weight": 0.5},
        {
            "teacher_shape": (4, 6, 3, 5),
            "student_shape": (4, 2, 3, 5),
            "zero_at_equal": False,
            "mask": MASK,
        },
        "other_number_of_heads",
    ),
    Case(
        losses.Ranking,
        reference.ranking,
        {},
        {"teacher_shape": (6, 15), "zero_at_equal": False},
        "static",
    ),
    Case(
        losses.Ranking,
        lambda t, s: reference.ranking(t, s, 3, 2.0, True, 0.3),
        {
            "top_k": 3,
            "position_decay": 2.0,
            "dynamic": True,
            "discrepancy": 0.3,
        },
        {"teacher_shape": (4, 9), "zero_at_equal": False},
        "dynamic",
    ),
)
