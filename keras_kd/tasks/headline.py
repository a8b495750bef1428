# SPDX-License-Identifier: Apache-2.0
"""Headline: the one figure a task is judged by, and how it is told."""

from __future__ import annotations

import dataclasses

FRACTION = "fraction"
DIRECTIONS = ("max", "min")


@dataclasses.dataclass(frozen=True)
class Headline:
    """A figure: its name, which way is good, and its unit.

    Args:
        name: Key of the figure in what a meter's `result` returns.
        direction: `"max"` if more is better, else `"min"`.
        unit: `"fraction"` for figures in [0, 1], which are printed in
            percent and compared in points; else what stands behind the
            number, or `""`.

    Raises:
        ValueError: If the direction is neither.

    Example:

    ```python
    error = kd.tasks.Headline("mean_absolute_error", "min", "kg")
    error.better(20.0, than=25.0)  # 5.0: better is positive
    error.text(20.0)  # "20 kg"
    ```
    """

    name: str
    direction: str = "max"
    unit: str = FRACTION

    def __post_init__(self):
        if self.direction not in DIRECTIONS:
            raise ValueError(
                f"`direction` must be one of {DIRECTIONS}. "
                f"Received: direction={self.direction!r}"
            )

    @property
    def title(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ")

    @property
    def is_fraction(self) -> bool:
        """Whether it is told in percent and in points."""
        return self.unit == FRACTION

    @property
    def scale(self) -> float:
        """What a value is multiplied by where it is shown."""
        return 100.0 if self.is_fraction else 1.0

    @property
    def shown_unit(self) -> str:
        """What stands behind a shown value: `"%"`, the unit, or nothing."""
        return "%" if self.is_fraction else self.unit

    @property
    def difference_unit(self) -> str:
        """What stands behind a difference: `"points"`, the unit, nothing."""
        return "points" if self.is_fraction else self.unit

    def better(self, value: float, than: float) -> float:
        """Returns by how much a value is better; negative if it is worse.

        In points for fractions, else in the unit.
        """
        sign = 1.0 if self.direction == "max" else -1.0
        return sign * self.scale * (value - than)

    def text(self, value: float) -> str:
        """Returns a value as it is printed, with its unit."""
        number = f"{100 * value:.2f}" if self.is_fraction else f"{value:.4g}"
        return f"{number} {self.shown_unit}".strip()

    def difference_text(
        self, difference: float, control: float | None = None
    ) -> str:
        """Returns what `better` gave, as it is printed.

        Args:
            difference: What `better` gave.
            control: The value that it is a difference from; what is no
                fraction is then also told in percent of it.
        """
        if self.is_fraction:
            return f"{difference:+z.2f} points"
        told = f"{difference:+.4g} {self.unit}".strip()
        if not control:
            return told
        return f"{told} ({100 * difference / abs(control):+z.1f} % of control)"
