# SPDX-License-Identifier: Apache-2.0
"""Distillation losses: one method, one file."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.core.type_aliases import LossLike
from keras_kd.core.type_aliases import OneLossLike
from keras_kd.losses.attention_maps import AttentionMaps
from keras_kd.losses.attention_maps import attention_maps
from keras_kd.losses.attention_transfer import AttentionTransfer
from keras_kd.losses.attention_transfer import attention_transfer
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.channel_wise import ChannelWise
from keras_kd.losses.channel_wise import channel_wise
from keras_kd.losses.contrastive import Contrastive
from keras_kd.losses.contrastive import contrastive
from keras_kd.losses.correlation import Correlation
from keras_kd.losses.correlation import correlation
from keras_kd.losses.decoupled import Decoupled
from keras_kd.losses.decoupled import decoupled
from keras_kd.losses.feature_matching import FeatureMatching
from keras_kd.losses.feature_matching import feature_matching
from keras_kd.losses.hard_targets import HardTargets
from keras_kd.losses.hard_targets import hard_targets
from keras_kd.losses.hidden_states import HiddenStates
from keras_kd.losses.hidden_states import hidden_states
from keras_kd.losses.keras_losses import KerasDistillationLoss
from keras_kd.losses.normalized_targets import NormalizedTargets
from keras_kd.losses.normalized_targets import normalized_targets
from keras_kd.losses.ranking import Ranking
from keras_kd.losses.ranking import ranking
from keras_kd.losses.regression import Regression
from keras_kd.losses.regression import regression
from keras_kd.losses.relational import Relational
from keras_kd.losses.relational import relational
from keras_kd.losses.review import Review
from keras_kd.losses.review import hierarchical_context
from keras_kd.losses.review import review
from keras_kd.losses.similarity_preserving import SimilarityPreserving
from keras_kd.losses.similarity_preserving import similarity_preserving
from keras_kd.losses.soft_targets import SoftTargets
from keras_kd.losses.soft_targets import soft_targets
from keras_kd.losses.standardized_targets import StandardizedTargets
from keras_kd.losses.standardized_targets import standardized_targets

METHODS = (
    AttentionMaps,
    AttentionTransfer,
    ChannelWise,
    Contrastive,
    Correlation,
    Decoupled,
    FeatureMatching,
    HardTargets,
    HiddenStates,
    NormalizedTargets,
    Ranking,
    Regression,
    Relational,
    Review,
    SimilarityPreserving,
    SoftTargets,
    StandardizedTargets,
)
"""Every method, by its class. A new method is added here."""

__all__ = [
    "AttentionMaps",
    "AttentionTransfer",
    "ChannelWise",
    "Contrastive",
    "Correlation",
    "Decoupled",
    "DistillationLoss",
    "FeatureMatching",
    "HardTargets",
    "HiddenStates",
    "KerasDistillationLoss",
    "METHODS",
    "NormalizedTargets",
    "Ranking",
    "Regression",
    "Relational",
    "Review",
    "SimilarityPreserving",
    "SoftTargets",
    "StandardizedTargets",
    "attention_maps",
    "attention_transfer",
    "channel_wise",
    "contrastive",
    "correlation",
    "decoupled",
    "deserialize",
    "feature_matching",
    "get",
    "get_all",
    "hard_targets",
    "hidden_states",
    "hierarchical_context",
    "normalized_targets",
    "ranking",
    "regression",
    "relational",
    "review",
    "serialize",
    "similarity_preserving",
    "soft_targets",
    "standardized_targets",
]


def get(identifier: OneLossLike) -> DistillationLoss:
    """Returns the distillation loss that `identifier` stands for.

    Args:
        identifier: A `DistillationLoss`, its name (`"soft_targets"` or
            `"SoftTargets"`), its serialized form, or a loss of
            `keras.distillation`.

    Raises:
        ValueError: If it is not one of these.

    Example:

    ```python
    kd.losses.get("soft_targets").temperature      # 4.0
    ```
    """
    if isinstance(identifier, DistillationLoss):
        return identifier
    if isinstance(identifier, keras.distillation.DistillationLoss):
        return KerasDistillationLoss(identifier)
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        for method in METHODS:
            if identifier.replace("_", "").lower() == method.__name__.lower():
                return method()
    raise ValueError(
        "Expected a distillation loss: a keras_kd.losses.DistillationLoss, one "
        f"of the names {sorted(m.__name__ for m in METHODS)}, or a "
        f"keras.distillation loss. Received: {identifier!r}"
    )


def get_all(losses: LossLike) -> list[DistillationLoss]:
    """Returns the distillation losses that `losses` stands for, as a list.

    Args:
        losses: What `get` takes, a list of that, or a dict of either by the
            output it is for: its losses then compare the outputs of that
            name, and are called `<output>_<loss>` where there are several.

    Raises:
        ValueError: If one is not a distillation loss, there is none, or one in
            a dict names other taps of the student.

    Example:

    ```python
    losses = {"kind": kd.losses.SoftTargets(), "size": "feature_matching"}
    [loss.name for loss in kd.losses.get_all(losses)]
    ```
    """
    # Serialized losses are dicts, too.
    by_output = isinstance(losses, dict) and "class_name" not in losses
    groups: Any = losses if by_output else {None: losses}
    found = []
    for output, group in groups.items():
        if not isinstance(group, (list, tuple)):
            group = [group]
        several = len(groups) > 1
        found += [_for_output(get(loss), output, several) for loss in group]
    if not found:
        raise ValueError(
            "`distillation_losses` is empty. Give at least one loss, or leave "
            "it out for SoftTargets; alpha=0 turns distillation off."
        )
    return found


def _for_output(loss, output, several):
    if output is None:
        return loss
    if loss.student not in ("output", output):
        raise ValueError(
            f"`distillation_losses` has {type(loss).__name__} for the output "
            f"'{output}', but it names another tap of the student. Leave its "
            "taps out, or give all losses as a list. Received: "
            f"student={loss.student!r}"
        )
    # Not copy.copy, which Keras makes a saving and loading: its scalars stay
    # those of the loss that was given.
    given, loss = loss, object.__new__(type(loss))
    vars(loss).update(vars(given))
    loss.student = output
    loss.teacher = output if loss.teacher == "output" else loss.teacher
    loss.name = f"{output}_{loss.name}" if several else loss.name
    return loss


def serialize(loss: DistillationLoss) -> dict:
    """Returns the loss as plain JSON values."""
    return keras.saving.serialize_keras_object(loss)


def deserialize(config: dict) -> DistillationLoss:
    """Returns the loss that `serialize` described."""
    return keras.saving.deserialize_keras_object(config)
