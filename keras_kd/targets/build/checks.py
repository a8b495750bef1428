# SPDX-License-Identifier: Apache-2.0
"""What stops a labelling: answers that are no numbers, and other data."""

from __future__ import annotations

import numpy as np

from keras_kd.targets.store.shards import Shard

OF_CLASSES = ("logits", "linear", "class_logits", "softmax_logits")
"""Of `output_kinds.TARGETS`: what may be logits of classes."""

_SMALLEST = 1.2e-38  # the smallest normal float32


def check_finite(values: np.ndarray, tap: str, place: int) -> None:
    """Raises if a teacher's answers hold NaN or infinity.

    Args:
        values: Array of shape `(batch, views, ...)`.
        tap: What the teacher was asked for.
        place: Place of the first of them in the data set.

    Raises:
        ValueError: With the place of the first such sample.
    """
    bad = ~np.isfinite(values.reshape(len(values), -1))
    if bad.any():
        row = int(bad.any(axis=1).argmax())
        value = values.reshape(len(values), -1)[row][bad[row]][0]
        raise ValueError(
            f"The teacher's {tap!r} must be finite. Received: {value} for "
            f"sample {place + row} of the data set. Look at that sample and "
            "at the teacher; shards that were finished before are kept."
        )


def same_samples(shard: Shard, found: np.ndarray, first: int) -> None:
    """Raises unless a shard holds the samples that the data set gives.

    Args:
        shard: A shard that was finished before.
        found: Fingerprints of the samples now, shape `(samples,)`.
        first: Place of the first of them in the data set.

    Raises:
        ValueError: With the place of the first sample that differs.
    """
    held = shard.read("fingerprint")
    length = min(len(held), len(found))
    differing = np.flatnonzero(held[:length] != found[:length])
    if not len(differing) and len(held) == len(found):
        return
    row = int(differing[0]) if len(differing) else length

    def at_row(marks):
        return f"{marks[row]:#018x}" if row < len(marks) else "no sample"

    raise ValueError(
        f"Sample {first + row} of the data set is not the one that was "
        f"labelled. Expected: {at_row(held)} (its fingerprint in "
        f"{shard.folder}). Received: {at_row(found)}. Targets are labelled in "
        "one fixed order, so shuffle after `attach`, not before `build`; for "
        "samples that are new use `extend`, for other data another directory."
    )


def class_logits(values: np.ndarray, key: str | None) -> np.ndarray:
    """Returns class scores as logits, for an encoding of some classes.

    Args:
        values: Array `(batch, ..., classes)`.
        key: What they are; `None` if that is not known.

    Raises:
        ValueError: If that is not known and the values do not show it.
    """
    if key in OF_CLASSES:
        return values
    sums = np.abs(values.sum(axis=-1) - 1.0).max() < 1e-3
    if key == "probabilities" or (sums and values.min() >= 0.0):
        return np.log(np.maximum(values, _SMALLEST))
    if values.min() < 0.0:
        return values
    raise ValueError(
        "What the teacher's output is cannot be told for certain: its numbers "
        f"go from {values.min():.3g} to {values.max():.3g}, and not every row "
        "sums to 1. Say what it is: kd.TeacherCache(..., outputs='logits') or "
        "'probabilities'."
    )
