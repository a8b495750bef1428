# SPDX-License-Identifier: Apache-2.0
"""Table of the trials: as cells, as Markdown, and growing while it runs."""

from __future__ import annotations

import html
import statistics
import textwrap
import threading
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keras_kd.core.printable import printable
from keras_kd.core.progress import say
from keras_kd.tuning.display import formatting
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

NEW_BEST = " *"
# A terminal has 80 columns.
SHORT = {"temperature": "T", "learning_rate": "rate", "seconds": "time\n(s)"}


def to_cells(
    rows: Sequence[TrialRecord], objective: str, direction: str = "max"
) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of the table as text.

    Columns are left out if they say nothing: settings that never vary
    (beside the temperature and alpha), and the remark if all trials
    completed. A star marks a trial that was the best when it ended; the
    control has no part in that. The rows come in the order in which they
    ended.
    """
    names = formatting.names_of(rows)
    has_remark = any(row.status != COMPLETED for row in rows)
    header = ["trial", *names, formatting.title_of(objective), "best so far"]
    header += ["epochs", "seconds"] + ["remark"] * has_remark
    result = []
    for index, row in enumerate(rows):
        best = best_of(rows[: index + 1], direction)
        so_far = formatting.without_unit(best and best.objective, objective)
        remark = "" if row.status == COMPLETED else row.status
        line = [
            row.name,
            *(formatting.setting(row.settings.get(name)) for name in names),
            formatting.without_unit(row.objective, objective),
            so_far + (NEW_BEST if best is row else ""),
            str(row.epochs),
            f"{row.seconds:.1f}",
        ]
        result.append(line + [remark] * has_remark)
    return header, result


def to_markdown(
    rows: Sequence[TrialRecord], objective: str, direction: str = "max"
) -> str:
    """Returns the table as plain Markdown."""
    header, cells = to_cells(rows, objective, direction)
    rule = [":---"] + ["---:"] * (len(header) - 1)
    lines = [_escaped(header), rule, *map(_escaped, cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def time_left(
    rows: Sequence[TrialRecord], trials: int, workers: int
) -> float | None:
    """Returns the seconds that the trials left will take, by the median.

    Failed trials end early and say nothing about the others. `None` while
    no other trial has ended.
    """
    ended = [row for row in rows if row.status != RUNNING]
    seconds = [row.seconds for row in ended if row.status != FAILED]
    left = max(trials - len(ended), 0)
    return statistics.median(seconds) * left / workers if seconds else None


class LiveTable:
    """A table that grows while the search runs.

    In a terminal it is redrawn in place. Elsewhere (a log file, CI, a
    notebook) each trial is one plain line, printed once, when it ends.

    Args:
        objective: Name of the objective.
        trials: How many trials the search will have, the control included.
        direction: `"max"` or `"min"`.
        workers: How many trials run at a time.
        console: Where to print. Defaults to the standard output.
        engine: What runs them, to be said.
    """

    def __init__(
        self,
        objective: str,
        trials: int,
        direction: str = "max",
        workers: int = 1,
        console: Console | None = None,
        engine: str | None = None,
    ):
        self.engine = engine
        self.objective = objective
        self.trials = trials
        self.direction = direction
        self.workers = workers
        self.console = console or Console()
        self._ended = {}
        self._running = {}
        self._title = ""
        self._live = None
        self._is_open = False
        # Live draws from a thread of its own.
        self._lock = threading.Lock()

    def begin(self, rows: Sequence[TrialRecord] = ()) -> None:
        """Opens the table, with the trials that had ended before."""
        self._ended = {row.name: row for row in rows if row.status != RUNNING}
        better = "higher" if self.direction == "max" else "lower"
        self._title = f"Search over {self.trials} trials, {self.objective} "
        self._title += f"({better} is better)"
        if self._ended:
            self._title += f"; {len(self._ended)} had ended before"
        if self.engine:
            self._title += f"; on {self.engine}"
        self._title += "."
        self._is_open = True
        if self.console.is_interactive and not self.console.is_jupyter:
            self._live = Live(
                get_renderable=self._draw,
                console=self.console,
                refresh_per_second=2,
            )
            self._live.start()
        else:
            self._print(self._title)

    def running(self, row: TrialRecord) -> None:
        """Shows that a trial runs, and for how long."""
        with self._lock:
            self._running[row.name] = time.monotonic(), row

    def ended(self, row: TrialRecord) -> None:
        """Adds a trial that has ended; a second call changes nothing."""
        with self._lock:
            self._running.pop(row.name, None)
            if self._ended.get(row.name) == row:
                return
            # A trial that was run again moves to the end.
            self._ended.pop(row.name, None)
            self._ended[row.name] = row
        if self._live is None:
            self._print(self._line(row))

    def close(self) -> None:
        """Releases the terminal and says how the search stands."""
        if not self._is_open:
            return
        self._is_open = False
        self._running.clear()
        if self._live is not None:
            self._live.stop()
            self._live = None
        else:
            self._print(self._standing())

    def _standing(self):
        rows = list(self._ended.values())
        text = f"{len(rows)} of {self.trials} trials ended"
        for status in dict.fromkeys(row.status for row in rows):
            count = sum(row.status == status for row in rows)
            text += f", {count} {status}" if status != COMPLETED else ""
        if best := best_of(rows, self.direction):
            text += f". Best: {self._value(best)} (trial {best.name})"
        control = self._ended.get(CONTROL)
        if control and control.objective is not None:
            text += f". Control: {self._value(control)}"
        return text + "."

    def _value(self, row):
        return formatting.with_unit(row.objective, self.objective)

    def _left(self):
        left = time_left(list(self._ended.values()), self.trials, self.workers)
        return [f"about {formatting.clock(left)} left"] if left else []

    def _line(self, row):
        """Returns what a log file says of a trial."""
        parts = [f"[{len(self._ended)}/{self.trials}] {_called(row)}"]
        if row.settings:
            parts.append(formatting.settings_text(row.settings))
        if row.objective is not None:
            is_best = best_of(list(self._ended.values()), self.direction) is row
            new = " (best so far)" if is_best else ""
            parts.append(f"{self.objective} {self._value(row)}{new}")
        if row.status != COMPLETED:
            why = (row.message or "").strip().splitlines()
            parts.append(f"{row.status}: {why[0]}" if why else row.status)
        epochs = "epoch" if row.epochs == 1 else "epochs"
        parts.append(
            f"{row.epochs} {epochs} in {formatting.clock(row.seconds)}"
        )
        return " | ".join(parts + self._left())

    def _print(self, line):
        say(line, file=self.console.file)

    def _draw(self):
        """Returns the table and what stands below it, for a terminal."""
        with self._lock:
            rows = list(self._ended.values())
            running = list(self._running.values())
        header, cells = to_cells(rows, self.objective, self.direction)
        # Live cannot scroll: it would cut off the end, which is the news.
        room = max(self.console.height - 12 - 2 * len(running), 3)
        hidden = max(len(cells) - room, 0) if self._is_open else 0
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for title in header:
            wrapped = textwrap.fill(
                title.replace("_", " "), 8, break_long_words=False
            )
            table.add_column(
                SHORT.get(title, wrapped),
                justify="left" if title in ("trial", "remark") else "right",
                overflow="fold",
                no_wrap=title == "remark",
            )
        for row, line in list(zip(rows, cells, strict=True))[hidden:]:
            is_best = any(cell.endswith(NEW_BEST) for cell in line)
            style = "bold" if is_best else "red" if row.status == FAILED else ""
            # As Text, since a name may hold what rich takes for markup.
            shown = (Text(printable(cell)) for cell in line)
            table.add_row(*shown, style=style)
        notes = [f"{hidden} earlier trials not shown"] if hidden else []
        notes += [self._standing(), *(self._left() if self._is_open else [])]
        now = time.monotonic()
        notes += [
            f"now: {_called(row)} {formatting.settings_text(row.settings)} "
            f"({formatting.clock(now - begun)})"
            for begun, row in running
        ]
        notes = [Text(printable(note)) for note in notes]
        return Group(Text(self._title), table, *notes)


def _called(row):
    return row.name if row.name == CONTROL else f"trial {row.name}"


def _escaped(cells):
    escaped = [html.escape(cell, quote=False) for cell in cells]
    return [" ".join(c.replace("|", "\\|").split()) for c in escaped]
