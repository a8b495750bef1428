# SPDX-License-Identifier: Apache-2.0
"""Confirmed: the best settings run again, beside default and control."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from keras_kd.evaluation.gain import GAIN
from keras_kd.evaluation.gain import NO_GAIN
from keras_kd.evaluation.gain import ONE_SEED
from keras_kd.evaluation.gain import WORSE
from keras_kd.evaluation.gain import Difference
from keras_kd.evaluation.gain import paired_difference
from keras_kd.tuning.display.formatting import scale_of
from keras_kd.tuning.display.formatting import settings_text

DEFAULT = {"temperature": 4.0, "alpha": 0.7}
SIDES = ("best", "default", "control")
_MEANING = {
    side: {
        GAIN: "Gain: the interval excludes zero.",
        NO_GAIN: (
            "No gain: the interval includes zero, so these seeds do not show "
            f"that {claim}."
        ),
        WORSE: f"Worse: {advice}.",
    }
    for side, claim, advice in (
        ("default", "the search beat the default", "keep the default settings"),
        ("control", "the teacher helped", "train without the teacher"),
    )
}
_CHANCE = "One seed: no spread known, so this may be chance."


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """What the best settings are worth on seeds that chose nothing.

    The best of many trials is best partly by luck. So its settings are run
    again with fresh seeds, next to the default settings and the control,
    which share those seeds. The validation split chose the settings and may
    flatter them; the test split chose nothing.

    Args:
        best: Objective of the best settings on the validation split, one
            value per seed. Accuracies are fractions.
        default: The same of the default settings; may be empty.
        control: The same of the student without a teacher; may be empty.
        seeds: The fresh seeds.
        settings: The best settings.
        objective: Name of the objective, such as `"val_accuracy"`.
        direction: `"max"` if higher is better, else `"min"`.
        test: The same metric on the test split, per seed:
            `{"best": [...], "default": [...], "control": [...]}`.

    Raises:
        ValueError: If a side has not one finite value per seed.

    Example:

    ```python
    from keras_kd.tuning.trials.confirmed import Confirmed

    confirmed = Confirmed(
        best=[0.92, 0.93, 0.92],
        default=[0.91, 0.92, 0.90],
        control=[0.89, 0.90, 0.88],
        seeds=[11, 12, 13],
        settings={"temperature": 2.5, "alpha": 0.9},
        objective="val_accuracy",
    )
    print(confirmed)
    confirmed.best_minus("control").verdict  # "gain"
    ```
    """

    best: list[float]
    default: list[float]
    control: list[float]
    seeds: list[int]
    settings: dict[str, Any]
    objective: str
    direction: str = "max"
    test: dict[str, list[float]] | None = None

    def __post_init__(self):
        if self.direction not in ("max", "min"):
            raise ValueError(
                'The direction must be "max" or "min". '
                f"Received: {self.direction!r}"
            )
        if not set(self.test or ()) <= set(SIDES):
            raise ValueError(
                f"The test figures must be of {SIDES}. "
                f"Received: {sorted(self.test)}"
            )
        if not self.best:
            raise ValueError(
                "A confirmation needs the values of the best settings. "
                "Received: best=[]"
            )
        for split, side in itertools.product(("validation", "test"), SIDES):
            values = self.values(side, split)
            is_whole = len(values) == len(self.seeds)
            if values and not (is_whole and np.isfinite(values).all()):
                raise ValueError(
                    "A confirmation needs one finite value per seed for "
                    f"{side!r} on the {split} split. Seeds: "
                    f"{list(self.seeds)}. Received: {list(values)}"
                )

    def values(self, side: str, split: str = "validation") -> list[float]:
        """Returns the values of `"best"`, `"default"` or `"control"`."""
        if split == "test":
            return (self.test or {}).get(side, [])
        return getattr(self, side)

    def best_minus(
        self, side: str, split: str = "validation"
    ) -> Difference | None:
        """Returns best minus `"default"` or minus `"control"`, in pairs.

        Args:
            side: `"default"` or `"control"`.
            split: `"validation"` or `"test"`.

        Returns:
            The `Difference`, in percentage points for an accuracy, else in
            the unit of the objective; `None` if a side was not run. With
            `direction="min"` a negative difference is a gain.
        """
        best, other = self.values("best", split), self.values(side, split)
        if not best or not other:
            return None
        scale = scale_of(self.objective)
        found = paired_difference(
            scale * np.asarray(other), scale * np.asarray(best)
        )
        if self.direction == "min":
            turned = {GAIN: WORSE, WORSE: GAIN}
            verdict = turned.get(found.verdict, found.verdict)
            found = dataclasses.replace(found, verdict=verdict)
        return found

    @property
    def split(self) -> str:
        """The split to believe: test where it was measured."""
        return "test" if self.values("best", "test") else "validation"

    def sentences(self, split: str | None = None) -> list[str]:
        """Returns one sentence on the setting, then one per comparison.

        Args:
            split: `"validation"` or `"test"`. Defaults to the one to
                believe.
        """
        split = split or self.split
        seeds = f"{len(self.seeds)} fresh paired seeds"
        if len(self.seeds) == 1:
            seeds = "one fresh seed"
        lower = ", lower is better" if self.direction == "min" else ""
        lines = [
            f"Best settings ({settings_text(self.settings)}) over {seeds}, "
            f"{self.objective.removeprefix('val_')} on the {split} "
            f"split{lower}."
        ]
        for side in SIDES[1:]:
            found = self.best_minus(side, split)
            if found is None:
                lines.append(f"The {side} was not run again beside them.")
                continue
            lines.append(self._sentence(side, found, split))
        if split == "validation":
            lines.append(
                "This split also chose the settings, so it may flatter them."
            )
        return lines

    def _sentence(self, side, found, split):
        scale = scale_of(self.objective)
        digits, unit, percent = ".4g", "", ""
        if scale == 100:
            digits, unit, percent = ".2f", " points", " %"
        best, other = (
            f"{name} {scale * np.mean(self.values(name, split)):{digits}}"
            f"{percent}"
            for name in ("best", side)
        )
        start = f"Best minus {side}: {found.mean:+{digits}}{unit}"
        if found.verdict == ONE_SEED:
            return f"{start} ({best}, {other}). {_CHANCE}"
        return (
            f"{start}, 95 % interval {found.low:+{digits}} to "
            f"{found.high:+{digits}} ({best}, {other}). "
            f"{_MEANING[side][found.verdict]}"
        )

    def __str__(self):
        return " ".join(self.sentences())

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Confirmed:
        """Returns what `to_json` gave.

        Raises:
            ValueError: If it is something else.
        """
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(
                "This is not a confirmation. Expected what "
                f"Confirmed.to_json returns. Received: {error}"
            ) from error
