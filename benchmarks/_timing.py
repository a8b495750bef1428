# SPDX-License-Identifier: Apache-2.0
"""Timing in turn, and keeping what was measured; for the other scripts."""

from __future__ import annotations

import datetime
import functools
import json
import os
import pathlib
import statistics
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from keras_kd.core import interleaved_timing
from keras_kd.core.records import write_atomically
from keras_kd.evaluation.environment import describe
from keras_kd.evaluation.environment import environment

RESULTS = pathlib.Path(__file__).parent / "results"
FAST = bool(os.environ.get("KERAS_KD_FAST"))
"""Whether to run tiny sizes, only to see that a script works."""


def in_turn(
    functions: dict[str, Callable[[], Any]], rounds: int, warm_up: int = 0
) -> dict[str, list]:
    """Calls each function once a round; returns what each gave, by name.

    Args:
        functions: Name to function. What it returns is kept.
        rounds: Rounds that count.
        warm_up: Rounds before them, which compile.
    """

    def told():
        for number in range(1 - warm_up, rounds + 1):
            yield number
            print(f"  round {number} of {rounds}", flush=True)

    calls = {k: lambda _, call=call: call() for k, call in functions.items()}
    found = interleaved_timing.in_turn(calls, told())
    return {name: values[warm_up:] for name, values in found.items()}


def seconds_of(function: Callable[[], Any]) -> Callable[[], float]:
    """Returns a function that calls `function` and returns its seconds."""
    return functools.partial(interleaved_timing.seconds_of, function)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict:
    """Returns the median, lowest and highest ratio within a round."""
    pairs = zip(numerators, denominators, strict=True)
    ratios = [above / below for above, below in pairs]
    return {
        "median": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def spread(found: dict, digits: int = 2) -> str:
    """Returns a `ratio` as `median (lowest to highest)`."""
    low, high = found["lowest"], found["highest"]
    return (
        f"{found['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    )


def verdict(met: bool) -> str:
    return "goal met" if met else "**goal not met**"


def circumstances(script: str) -> dict[str, Any]:
    """Returns command, date, load and environment, to be kept with figures."""
    return {
        "command": f".venv/bin/python benchmarks/{script}.py",
        "date": datetime.date.today().isoformat(),
        "load_at_start": os.getloadavg()[0],
        "environment": environment(),
    }


def footnote(results: dict[str, Any]) -> str:
    """Returns the `circumstances` as sentences."""
    return (
        f"`{results['command']}`, {results['date']}; load average at the "
        f"start {results['load_at_start']:.1f}. "
        f"{describe(results['environment'])}"
    )


def kept(script: str) -> dict[str, Any]:
    """Returns the figures that are kept of a script; empty if none are.

    Empty at tiny sizes, too, so that they are not shown beside others.
    """
    path = RESULTS / script / "results.json"
    if FAST or not path.exists():
        return {}
    return json.loads(path.read_text())


def keep(
    script: str, results: dict[str, Any], markdown: str, whole: bool = True
) -> None:
    """Prints a table; keeps it with its figures if it is a whole run."""
    print(f"\n{markdown}")
    if FAST or not whole:
        print("Nothing is kept of a run at tiny sizes or of a part.")
        return
    folder = RESULTS / script
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(folder / "results.json", text)
    write_atomically(folder / "README.md", markdown)
