# SPDX-License-Identifier: Apache-2.0
"""Measuring several functions in turn, so that their ratios hold.

Other work on the machine slows a whole round, so ratios are taken within a
round; every other round runs in reverse, so that none always follows the
same other one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any


def in_turn(
    functions: Mapping[Any, Callable[[Any], Any]], rounds: Iterable
) -> dict[Any, list]:
    """Calls each function with the item of each round.

    Returns:
        What each function measured, by its name.
    """
    found: dict[Any, list] = {name: [] for name in functions}
    for number, item in enumerate(rounds):
        for name in list(functions)[:: -1 if number % 2 else 1]:
            found[name].append(functions[name](item))
    return found


def medians(found: Mapping[Any, list[float]]) -> dict[Any, tuple]:
    """Returns `(median, speedup)` by name, of seconds from `in_turn`.

    The speedup says how many times as fast as the first one it is: the
    median of the ratios within a round.
    """
    first = next(iter(found.values()))
    return {
        name: (
            statistics.median(own),
            statistics.median(a / b for a, b in zip(first, own, strict=True)),
        )
        for name, own in found.items()
    }


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    """Returns the wall time of one call."""
    began = time.perf_counter()
    function(*args)
    return time.perf_counter() - began
