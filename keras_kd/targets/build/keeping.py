# SPDX-License-Identifier: Apache-2.0
"""Keeping: how each tap of a teacher is stored, once it is known what it is."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_kd.targets.build.checks import OF_CLASSES
from keras_kd.targets.store.encodings import Dense
from keras_kd.targets.store.encodings import TopK
from keras_kd.targets.store.options import AUTO
from keras_kd.targets.store.options import Options
from keras_kd.teachers.base import Teacher

VOCABULARY = 1000
"""Classes from which on the likeliest are kept instead of all."""
LIKELIEST = 64


def encodings_for(
    encodings: dict[str, Any],
    options: Options,
    keys: dict[str, str | None],
    teacher: Teacher,
    settings: dict[str, Any] | None,
) -> dict[str, Any]:
    """Returns encodings that say what they hold.

    Args:
        encodings: By tap, as `options` or the manifest say.
        options: What was asked for.
        keys: What each tap is, as `target_keys` says.
        teacher: What is stored.
        settings: Those of a cache that is gone on with, else `None`.

    Raises:
        ValueError: If only some classes are to be stored of what has no
            classes, or the cache was begun when named heads were kept as
            they are.
    """
    heads = [k for t, k in keys.items() if k != "linear" and t != "output"]
    if settings is not None and "outputs" not in settings:
        if {"softmax_logits", "sigmoid_logits"} & set(heads):
            raise ValueError(
                "This cache was begun by a version that kept named softmax "
                "and sigmoid heads as probabilities. Label again, into "
                "another directory."
            )
        return encodings
    shape = None
    if "output" in keys:
        shape = teacher.ready_for(options.taps).shape("output")
    classes = shape[-1] if shape else None
    is_large = keys.get("output") in OF_CLASSES and (classes or 0) >= VOCABULARY
    is_open = options.top_k == AUTO and options.sampled is None
    if is_open and is_large:
        encodings = {**encodings, "output": TopK(LIKELIEST)}
    return {
        tap: _saying(encoding, keys[tap]) for tap, encoding in encodings.items()
    }


def _saying(encoding, key):
    if isinstance(encoding, Dense):
        return dataclasses.replace(encoding, key=key)
    if key not in (*OF_CLASSES, "probabilities", None):
        raise ValueError(
            "`top_k` and `sampled` are for scores of classes, of which one is "
            f"right. Received: a teacher whose output is {key!r}. Leave them "
            "out."
        )
    return encoding
