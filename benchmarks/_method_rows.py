# SPDX-License-Identifier: Apache-2.0
"""What `methods.py` compares: a row per method, with its paper's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras_kd as kd
from keras_kd import losses
from keras_kd import teachers


@dataclasses.dataclass(frozen=True)
class Row:
    """A method and its settings.

    Args:
        settings: What the table says of them.
        make: Function from the number of steps to the list of losses; `None`
            for the control.
        alpha: See `Distiller`.
        teacher: Function from the number of steps to a teacher; `None` for
            the recipe's.
        callbacks: Function from the number of epochs to callbacks.
    """

    settings: str
    make: Callable | None
    alpha: float = 0.5
    teacher: Callable | None = None
    callbacks: Callable | None = None


EPOCHS = 10

# Layers of the recipe's two models: maps of 14x14, 7x7 and 3x3 (teacher) or
# 4x4 (student), and what the last dense layer gets.
TEACHER_MAPS = ["max_pooling2d", "max_pooling2d_1", "max_pooling2d_2"]
STUDENT_MAPS = ["re_lu", "re_lu_2", "re_lu_3"]
LAST_MAPS = {"teacher": TEACHER_MAPS[-1], "student": STUDENT_MAPS[-1]}
MIDDLE_MAPS = {"teacher": TEACHER_MAPS[1], "student": STUDENT_MAPS[1]}
FEATURES = {"teacher": "dense", "student": "flatten"}


def only(method, **arguments):
    """Returns a row's `make` for a single loss."""
    return lambda steps: [method(**arguments)]


ROWS = {
    "control": Row("labels alone", None),
    "soft_targets": Row(
        "T = 4, alpha = 0.9", only(losses.SoftTargets), alpha=0.9
    ),
    "soft_targets_reverse": Row(
        "reverse KL, T = 4, alpha = 0.9",
        only(losses.SoftTargets, divergence="reverse_kl"),
        alpha=0.9,
    ),
    "soft_targets_jensen_shannon": Row(
        "Jensen-Shannon (weight 4), T = 4, alpha = 0.9",
        only(losses.SoftTargets, divergence="jensen_shannon", weight=4.0),
        alpha=0.9,
    ),
    "hard_targets": Row("alpha = 0.5", only(losses.HardTargets)),
    "decoupled": Row(
        "1 and 8, T = 4, warm-up 1/12 of the steps",
        lambda steps: [losses.Decoupled(warm_up_steps=steps // 12)],
    ),
    "correlation": Row("T = 1, weight 2", only(losses.Correlation, weight=2.0)),
    "standardized_targets": Row(
        "T = 2, weight 9 to 0.1", only(losses.StandardizedTargets), alpha=0.99
    ),
    "normalized_targets": Row(
        "gamma = 1.5, T = 1, weight 1", only(losses.NormalizedTargets)
    ),
    "feature_matching": Row(
        "middle maps, weight 100",
        only(losses.FeatureMatching, weight=100.0, **MIDDLE_MAPS),
    ),
    "attention_transfer": Row(
        "three maps, weight 1000",
        lambda steps: [
            losses.AttentionTransfer(teacher=teacher, student=student)
            for teacher, student in zip(TEACHER_MAPS, STUDENT_MAPS, strict=True)
        ],
    ),
    "similarity_preserving": Row(
        "last maps, weight 3000",
        only(losses.SimilarityPreserving, **LAST_MAPS),
    ),
    "relational": Row(
        "features, distance 25, angle 50", only(losses.Relational, **FEATURES)
    ),
    "contrastive": Row(
        "features, 4096 negatives, tau = 0.07, weight 0.8",
        only(losses.Contrastive, **FEATURES),
    ),
    "review": Row(
        "three maps, weight 1, warm-up 1/12 of the steps",
        lambda steps: [
            losses.Review(
                teacher=TEACHER_MAPS,
                student=STUDENT_MAPS,
                warm_up_steps=steps // 12,
            )
        ],
    ),
    "hidden_states": Row(
        "features, cosine, weight 1 beside soft targets with 5",
        lambda steps: [
            losses.SoftTargets(2.0, weight=5.0),
            losses.HiddenStates(**FEATURES),
        ],
    ),
    "channel_wise": Row(
        "last maps, T = 4, weight 50",
        only(losses.ChannelWise, weight=50.0, **LAST_MAPS),
    ),
    "ranking": Row(
        "classes as items, the best 3", only(losses.Ranking, top_k=3)
    ),
    "soft_targets_and_features": Row(
        "T = 4, alpha = 0.9; middle maps, weight 1",
        lambda steps: [
            losses.SoftTargets(),
            losses.FeatureMatching(**MIDDLE_MAPS),
        ],
        alpha=0.9,
    ),
    "ema_teacher": Row(
        "its own average, momentum 0.99, T = 1",
        only(losses.SoftTargets, temperature=1.0),
        teacher=lambda steps: teachers.EMATeacher(0.99),
    ),
    "last_epoch_teacher": Row(
        "itself an epoch ago (PS-KD), alpha 0 to 0.8, T = 1",
        only(losses.SoftTargets, temperature=1.0),
        teacher=lambda steps: teachers.LastEpochTeacher(steps // EPOCHS),
        callbacks=lambda epochs: [
            kd.callbacks.Schedule(
                "alpha", kd.callbacks.progressive(0.8, epochs)
            )
        ],
    ),
}
