# SPDX-License-Identifier: Apache-2.0
"""Gain: is the distilled student better than one trained without a teacher?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_kd.core.records import StageRecord
from keras_kd.data.splits import REPORTED_ON
from keras_kd.tasks.headline import Headline

ACCURACY = Headline("accuracy")
GAIN = "gain"
NO_GAIN = "no gain"
WORSE = "worse"
ONE_SEED = "one seed: no spread known"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One side minus the other, over seeds that both share.

    Args:
        mean: Mean of the paired differences.
        low: Lower end of the 95 % interval; `None` with one seed.
        high: Upper end of it; `None` with one seed.
        n: Number of seeds.
        verdict: `"gain"`, `"no gain"` (the interval includes zero),
            `"worse"`, or `"one seed: no spread known"`.
        deviation: Standard deviation of the differences; `None` with one.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    deviation: float | None


@dataclasses.dataclass(frozen=True)
class Gain(Difference):
    """How much better the distilled student is than the control, over seeds.

    In percentage points of accuracy, or of another headline that is a
    fraction; else in the headline's unit. Positive is better, whichever way
    the headline goes.

    Its arguments are those of `Difference` and these.

    Args:
        control: Mean of the control, in percent or in the unit.
        distilled: Mean of the distilled student, likewise.
        split: What the figures are of, a key of `REPORTED_ON`; `None`
            does not say.
        headline: What the figures are; `None` for accuracy.
    """

    control: float
    distilled: float
    split: str | None = None
    headline: Headline | None = None

    def __str__(self):
        if self.headline not in (None, ACCURACY):
            return self._of_headline()
        means = (
            f"control {self.control:.2f} %, distilled {self.distilled:.2f} %"
        )
        on = f" on {REPORTED_ON[self.split]}" if self.split else ""
        if self.n == 1:
            return (
                f"Distilled minus control{on}: {self.mean:+z.2f} points "
                f"({means}). "
                "One seed: no spread known, so this may be chance."
            )
        return (
            f"Distilled minus control over {self.n} paired seeds{on}: "
            f"{self.mean:+z.2f} points, standard deviation "
            f"{self.deviation:.2f}, 95 % interval {self.low:+z.2f} to "
            f"{self.high:+z.2f} ({means}). {_MEANING[self.verdict]}"
        )

    def _of_headline(self):
        told = self.headline
        on = f" on {REPORTED_ON[self.split]}" if self.split else ""
        means = ", ".join(
            f"{name} {told.text(value / told.scale)}"
            for name, value in (
                ("control", self.control),
                ("distilled", self.distilled),
            )
        )
        better = told.difference_text(self.mean, self.control)
        what = f"{told.title}, positive is better: {better}"
        if self.n == 1:
            return (
                f"Distilled against control{on}, {what} ({means}). "
                "One seed: no spread known, so this may be chance."
            )
        return (
            f"Distilled against control over {self.n} paired seeds{on}, "
            f"{what}, 95 % interval {told.difference_text(self.low)} to "
            f"{told.difference_text(self.high)} ({means}). "
            f"{_MEANING[self.verdict]}"
        )


_MEANING = {
    GAIN: "Gain: the interval lies above zero.",
    NO_GAIN: (
        "No gain: the interval includes zero, so these seeds do not show "
        "that the teacher helped."
    ),
    WORSE: (
        "Worse: the interval lies below zero. Ship the control instead, or "
        "change the temperature, alpha or the loss."
    ),
}


def paired_gain(
    control: Sequence[float],
    distilled: Sequence[float],
    split: str | None = None,
    headline: Headline | None = None,
) -> Gain:
    """Compares figures that share their seeds, pair by pair.

    The two students of a seed share their start, so the difference within a
    pair is free of what that does to both. They share the order of the data
    too where the training split is arrays and the teacher's output alone is
    learned; a shuffled `tf.data.Dataset`, and features from a cache, come in
    an order of their own. The interval is Student's t at 95 %.

    Args:
        control: Accuracy (or headline) of the control for each seed.
        distilled: That of the distilled student, in the same order.
        split: See `Gain`.
        headline: See `Gain`.

    Returns:
        The `Gain`.

    Raises:
        ValueError: If the two are empty, differ in length, or accuracies are
            not fractions.

    Example:

    ```python
    paired_gain([0.90, 0.91, 0.89], [0.93, 0.93, 0.92]).verdict  # "gain"
    ```
    """
    pairs = [np.asarray(side, float) for side in (control, distilled)]
    shape = pairs[0].shape
    if len(shape) != 1 or shape != pairs[1].shape or not shape[0]:
        raise ValueError(
            "A paired gain needs one accuracy per seed for both students, in "
            "the same order of seeds. Received: "
            f"{list(control)} and {list(distilled)}"
        )
    judged = headline or ACCURACY
    is_accuracy = judged == ACCURACY
    in_range = all(((side >= 0) & (side <= 1)).all() for side in pairs)
    if is_accuracy and not in_range:
        raise ValueError(
            "Accuracies must be fractions in [0, 1]. Received: "
            f"{list(control)} and {list(distilled)}"
        )
    before, after = (judged.scale * side for side in pairs)
    is_more = judged.direction == "max"
    found = paired_difference(
        *((before, after) if is_more else (after, before))
    )
    return Gain(
        **vars(found),
        control=float(before.mean()),
        distilled=float(after.mean()),
        split=split,
        headline=headline,
    )


def paired_difference(before: ArrayLike, after: ArrayLike) -> Difference:
    """Compares two lists of figures in pairs, whatever their unit.

    Args:
        before: Figure of one side for each seed.
        after: Figure of the other side, in the same order.

    Returns:
        The `Difference`, after minus before.
    """
    differences = np.asarray(after, float) - np.asarray(before, float)
    mean, low, high, deviation = mean_interval(differences)
    if low is None or high is None:
        verdict = ONE_SEED
    else:
        verdict = GAIN if low > 0 else WORSE if high < 0 else NO_GAIN
    return Difference(mean, low, high, len(differences), verdict, deviation)


def mean_interval(
    values: ArrayLike,
) -> tuple[float, float | None, float | None, float | None]:
    """Returns the mean, the ends of its 95 % interval, and the deviation.

    The interval is Student's t; all but the mean are `None` for one value.
    """
    from scipy import special

    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) == 1:
        return mean, None, None, None
    deviation = float(values.std(ddof=1))
    quantile = float(special.stdtrit(len(values) - 1, 0.975))
    half = quantile * deviation / len(values) ** 0.5
    return mean, mean - half, mean + half, deviation


def gain_of(
    records: Sequence[StageRecord], split: str | None = None
) -> Gain | None:
    """Returns the gain that the control's and the student's records show.

    Returns:
        The `Gain`, or `None` if one of the two has no figures by seed.

    Raises:
        ValueError: If the two were trained with different seeds.
    """
    headline = headline_of(records)
    key = "accuracies" if headline == ACCURACY else "headlines"
    sides = {r.stage: r.metrics for r in records if r.metrics.get(key)}
    if not {"control", "student"} <= set(sides):
        return None
    control, student = sides["control"], sides["student"]
    if control.get("seeds") != student.get("seeds"):
        raise ValueError(
            "The control and the student must share their seeds to be "
            f"compared in pairs. Received: {control.get('seeds')} and "
            f"{student.get('seeds')}"
        )
    named = None if headline == ACCURACY else headline
    return paired_gain(control[key], student[key], split, named)


def headline_of(records: Sequence[StageRecord]) -> Headline:
    """Returns what records are judged by, which is accuracy by default."""
    for record in records:
        if found := record.metrics.get("headline"):
            return Headline(**found)
    return ACCURACY
