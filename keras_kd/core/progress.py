# SPDX-License-Identifier: Apache-2.0
"""A progress bar for runs of many short trainings."""

from __future__ import annotations

import keras
from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.progress import TimeRemainingColumn


class TrainingProgress(keras.callbacks.Callback):
    """One line per training: epochs done, the watched figure, time left.

    Keras' own bar takes a line per epoch, which buries a run of ten
    trainings. Where the output is no terminal, only the finished line is
    printed.

    Args:
        title: What is being trained.
        watched: Key in `logs` to show.
    """

    def __init__(self, title: str, watched: str = "val_accuracy"):
        super().__init__()
        self.title = title
        self.watched = watched
        self._progress = None

    def on_train_begin(self, logs=None):
        self._progress = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figure]}"),
            console=Console(),
        )
        self._progress.start()
        self._task = self._progress.add_task(
            self.title, total=self.params.get("epochs"), figure=""
        )

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.watched)
        figure = "" if value is None else f"{self.watched} {value:.4f}"
        self._progress.update(self._task, advance=1, figure=figure)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Releases the terminal; also after an interrupted training."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
