# SPDX-License-Identifier: Apache-2.0
"""A progress bar that counts samples."""

from __future__ import annotations

import contextlib

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.progress import TimeRemainingColumn


@contextlib.contextmanager
def sample_bar(title: str, total: int | None, verbose: bool = True):
    """Yields a function that is told how many samples were done.

    Shows samples a second and the time left. Where the output is no
    terminal, only the finished line is printed.

    Args:
        title: What is being done.
        total: How many samples there are at most, `None` if not known.
        verbose: Whether to show anything.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(),
        disable=not verbose,
    )
    with bar:
        task = bar.add_task(title, total=total, speed="")

        def advance(samples):
            done = bar.tasks[task]
            speed = f"{done.speed:,.0f} samples/s" if done.speed else ""
            bar.update(task, advance=samples, speed=speed)

        yield advance
        bar.update(task, total=bar.tasks[task].completed)
