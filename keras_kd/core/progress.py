# SPDX-License-Identifier: Apache-2.0
"""Progress: the one place where the library prints while it works."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any
from typing import TextIO

import keras
from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.progress import TimeRemainingColumn

from keras_kd.core.printable import printable


def say(line: Any, verbose: int = 1, file: TextIO | None = None) -> None:
    """Prints one line, as it is; nothing if `verbose` is 0."""
    if verbose:
        plain = Console(
            file=file, force_jupyter=False, markup=False, highlight=False
        )
        plain.print(printable(line), emoji=False, soft_wrap=True)


def console_for(verbose: int) -> Console:
    """Returns the standard output, or what nobody reads if `verbose` is 0."""
    return Console(file=None if verbose else io.StringIO())


@contextlib.contextmanager
def no_native_notices():
    """Drops what native code writes to the error output meanwhile.

    LiteRT and its converter tell there what they do, and have no option
    against it. What fails is raised as an error all the same.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no error output
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def progress_bar(
    title: str, total: int | None, unit: str = "samples", verbose: int = 1
):
    """Yields a function that is told how many units were done.

    Shows units a second and the time left. Where the output is no terminal,
    only the finished line is printed; nothing at all if `verbose` is 0.
    """
    with _bar(verbose) as bar:
        task = bar.add_task(printable(title), total=total, unit=unit, figure="")

        def advance(count: int = 1):
            speed = bar.tasks[task].speed
            shown = f"{speed:,.0f} {unit}/s" if speed else unit
            bar.update(task, advance=count, unit=shown)

        yield advance
        bar.update(task, total=bar.tasks[task].completed)


class TrainingProgress(keras.callbacks.Callback):
    """One line per training: epochs done, the watched figure, time left.

    Keras' own bar takes a line per epoch, which buries a run of ten
    trainings. Where the output is no terminal, only the finished line is
    printed. `watched` is the key in `logs` to show.
    """

    def __init__(self, title: str, watched: str = "val_accuracy"):
        super().__init__()
        self.title = title
        self.watched = watched
        self._bar = None

    def on_train_begin(self, logs=None):
        self._bar = _bar()
        self._bar.start()
        total = self.params.get("epochs")
        self._task = self._bar.add_task(
            self.title, total=total, unit="epochs", figure=""
        )

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.watched)
        figure = "" if value is None else f"{self.watched} {value:.4f}"
        self._bar.update(self._task, advance=1, figure=figure)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Releases the terminal; also after an interrupted training."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar(verbose: int = 1) -> Progress:
    return Progress(
        TextColumn("{task.description:<22}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figure]}"),
        console=Console(),
        disable=not verbose,
    )
