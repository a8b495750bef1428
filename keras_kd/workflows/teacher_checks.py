# SPDX-License-Identifier: Apache-2.0
"""Has the teacher anything to teach? Warnings a person should read."""

from __future__ import annotations

import numpy as np

from keras_kd.data.splits import UNLABELLED
from keras_kd.tasks import Headline
from keras_kd.tasks.reading import sums_to_one

ACCURACY = Headline("accuracy")
MARGIN = 0.005  # half a point: less is noise on most validation sets


def chance_level(labels: np.ndarray) -> float | None:
    """Returns the accuracy of always answering the most frequent class.

    `None` where labels are no class ids.
    """
    labels = np.asarray(labels)
    if labels.ndim > 1 and labels.shape[-1] > 1 and sums_to_one(labels):
        labels = labels.argmax(axis=-1)  # one-hot
    if not np.issubdtype(labels.dtype, np.integer):
        return None
    labels = labels[labels != UNLABELLED]
    if labels.size == 0:
        return None
    return float(np.unique(labels, return_counts=True)[1].max() / labels.size)


def warn_of_teacher(
    teacher: float | None,
    labels: np.ndarray,
    control: float | None = None,
    headline: Headline = ACCURACY,
) -> list[str]:
    """Returns warnings about a teacher that cannot help.

    Args:
        teacher: Its headline on the validation split, `None` if unknown.
        labels: Labels of the validation split.
        control: That of the student trained without it.
        headline: What the two are.
    """
    if teacher is None:
        return []
    if headline != ACCURACY:
        if control is None or headline.better(teacher, than=control) > 0:
            return []
        return [
            f"Warning: the teacher ({headline.title} {headline.text(teacher)} "
            "on validation) is not better than the student trained without it "
            f"({headline.text(control)}). Expect no gain: use a better "
            "teacher, a smaller student, or unlabelled data."
        ]
    warnings = []
    chance = chance_level(labels)
    if chance is not None and teacher <= chance + MARGIN:
        warnings.append(
            f"Warning: the teacher is right on {teacher:.1%} of the "
            f"validation split; always answering the most frequent class is "
            f"right on {chance:.1%}. It has nothing to teach: check its "
            "weights, its preprocessing and the order of its classes."
        )
    elif control is not None and teacher <= control + MARGIN:
        how = "hardly" if teacher > control else "not"
        warnings.append(
            f"Warning: the teacher ({teacher:.1%} on validation) is {how} "
            f"better than the student trained without it ({control:.1%}). "
            "Expect no gain: use a better teacher, a smaller student, or "
            "unlabelled data."
        )
    return warnings
