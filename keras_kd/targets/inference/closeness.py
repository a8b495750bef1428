# SPDX-License-Identifier: Apache-2.0
"""How close the answers of one way to run a teacher are to another's."""

from __future__ import annotations

import dataclasses

import numpy as np

TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Closeness:
    """What comparing two sets of answers found.

    Args:
        taps: What was compared.
        finite: Whether the second set holds neither NaN nor infinity.
        agreement: Share of decisions that are the same; `None` without an
            output among the taps.
        largest_difference: Largest absolute difference in any tap.
        equal: Those taps that are equal as float32 arithmetic goes: each value
            within 1e-4, relative and absolute (or, in a tap of small values,
            relative to the largest).
    """

    taps: frozenset[str]
    finite: bool
    agreement: float | None
    largest_difference: float
    equal: frozenset[str]

    def objection(self, agreement: float | None) -> str | None:
        """Returns what speaks against the second set, `None` if nothing.

        Args:
            agreement: Least share of equal decisions; then the output need
                not be equal. `None`: every tap must be.
        """
        if not self.finite:
            return "gives values that are not finite"
        judged_by_decision = (
            agreement is not None and self.agreement is not None
        )
        if judged_by_decision and self.agreement < agreement:
            return f"agrees on {self.agreement:.4f} of the decisions only"
        needed = self.taps - ({"output"} if judged_by_decision else set())
        differing = sorted(needed - self.equal)
        if differing:
            return (
                f"differs in {differing}, by up to "
                f"{self.largest_difference:.1e}"
            )
        return None


def compare(
    expected: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    binary: bool = False,
) -> Closeness:
    """Compares two sets of answers, `{tap: (samples, ...)}`.

    Args:
        expected: The answers to go by.
        found: The answers to judge.
        binary: Whether the output is logits of independent yes/no units.
    """
    agreement = None
    if "output" in expected:
        same = decisions(expected["output"], binary) == decisions(
            found["output"], binary
        )
        agreement = float(same.mean())
    gaps = {tap: np.abs(found[tap] - expected[tap]) for tap in expected}
    return Closeness(
        taps=frozenset(expected),
        finite=all(np.isfinite(found[tap]).all() for tap in expected),
        agreement=agreement,
        largest_difference=float(max(gap.max() for gap in gaps.values())),
        equal=frozenset(
            tap for tap, gap in gaps.items() if _small(gap, expected[tap])
        ),
    )


def decisions(logits: np.ndarray, binary: bool = False) -> np.ndarray:
    """Returns class ids, or yes/no for independent (or single) units."""
    if binary or logits.shape[-1] == 1:
        return logits > 0
    return logits.argmax(axis=-1)


def _small(gap, values):
    sizes = np.abs(values)
    return bool((gap <= TOLERANCE * (sizes + min(1.0, sizes.max()))).all())
