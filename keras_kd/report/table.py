# SPDX-License-Identifier: Apache-2.0
"""Table: one row per model or file, in columns with stated units."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from keras_kd.core.records import StageRecord
from keras_kd.evaluation.gain import ACCURACY
from keras_kd.evaluation.gain import headline_of
from keras_kd.tasks.headline import Headline

MISSING = "\N{EN DASH}"
FEW_CLASSES = 4  # as many as there is room for in a terminal
STAGES = ("teacher", "control", "student", "prune", "export")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its header with the unit, its metric, and how to print it."""

    header: str
    metric: str
    text: Callable[[Any], str]
    is_optional: bool = False  # left out if no row has it
    page_only: bool = False  # too many for a terminal and for report.md
    place: int | None = None  # in a figure that is a list, by class

    def cell(self, record: StageRecord) -> str:
        """Returns the figure as text; an en dash where there is none."""
        value = record.metrics.get(self.metric)
        if self.place is not None and value is not None:
            value = value[self.place]
        # NaN is the one number that differs from itself.
        is_missing = value is None or value != value
        return MISSING if is_missing else self.text(value)


def _percent(value):
    return f"{100 * value:.2f}"


def _kib(value):
    return f"{value / 1024:,.1f}"


def _mib(value):
    return f"{value / 2**20:,.1f}"


def _difference(value):
    return f"{value:.1e}" if value else "0"


_COUNT, _MS, _RATE = "{:,}".format, "{:.3f}".format, "{:,.0f}".format
_ERROR = "{:.4g}".format
ALL_COLUMNS = (
    Column("accuracy (%)", "accuracy", _percent, True),
    Column("mean absolute error", "mean_absolute_error", _ERROR, True),
    Column("agreement with teacher (%)", "agreement", _percent),
    Column("ECE (%)", "ece", _percent, True, True),
    Column("parameters", "parameters", _COUNT),
    Column("non-zero parameters", "nonzero_parameters", _COUNT),
    Column("size (KiB)", "bytes", _kib),
    Column("gzip (KiB)", "gzip_bytes", _kib, True, True),
    Column("latency p50 (ms)", "latency_ms_p50", _MS),
    Column("p90 (ms)", "latency_ms_p90", _MS, True, True),
    Column("p99 (ms)", "latency_ms_p99", _MS, True, True),
    Column("throughput (1/s)", "throughput_per_second", _RATE, True, True),
    Column("peak memory (MiB)", "peak_memory_bytes", _mib, True, True),
    Column("max. difference", "max_difference", _difference, True),
)
COLUMNS = tuple(column for column in ALL_COLUMNS if not column.page_only)
BESIDE = {
    "mean_average_precision": Column("macro-F1 (%)", "macro_f1", _percent),
    "ap": Column("AP50 (%)", "ap50", _percent),
}
"""By the headline: another figure that its field looks for."""


def order(records: Sequence[StageRecord]) -> list[StageRecord]:
    """Returns the records in the order of the stages, which must be known."""
    for record in records:
        if record.stage not in STAGES:
            raise ValueError(
                f"The stage of a record must be one of {STAGES}. "
                f"Received: {record.stage!r} (record {record.name!r})"
            )
    return sorted(records, key=lambda record: STAGES.index(record.stage))


def to_cells(
    records: Sequence[StageRecord],
    columns: Sequence[Column] = COLUMNS,
    judged: bool = True,
) -> tuple[list[str], list[list[str]]]:
    """Returns the column titles, and a list of cells per record.

    A figure that no stage measured is an en dash. "max. difference" is
    between a file's outputs and those of the model it was made from.
    Unless `judged`, what the records are judged by is not put first.
    """
    records = order(records)
    columns = [
        column
        for column in (with_headline(records, columns) if judged else columns)
        if not column.is_optional
        or any(column.cell(record) != MISSING for record in records)
    ]
    rows = [
        [record.name, *(column.cell(record) for column in columns)]
        for record in records
    ]
    return ["model"] + [column.header for column in columns], rows


def with_headline(
    records: Sequence[StageRecord], columns: Sequence[Column]
) -> list[Column]:
    """Returns columns that show what the records are judged by first."""
    headline = headline_of(records)
    if headline == ACCURACY:
        return list(columns)
    judged = [_column(headline, headline.title), *_by_class(records)]
    judged += [
        column for name, column in BESIDE.items() if name == headline.name
    ]
    for record in records:
        if found := record.metrics.get("agreement_is"):
            agreement = Headline(**found)
            title = "agreement with teacher"
            if agreement.direction == "min":
                title = "distance from teacher"
            judged.append(_column(agreement, title))
            break
    shown = {column.metric for column in judged}
    return judged + [c for c in columns if c.metric not in shown]


def class_figure(records: Sequence[StageRecord]) -> str | None:
    """Returns which figure tells by class what a mean IoU is made of."""
    name = headline_of(records).name
    if not name.endswith("mean_iou"):
        return None
    return name.removesuffix("mean_iou") + "class_iou"


def _by_class(records: Sequence[StageRecord]) -> list[Column]:
    """Returns a column for each class, if they are few.

    Files are chosen by this table, and a mean hides a class that a file lost.
    """
    metric = class_figure(records)
    found = [r.metrics for r in records if metric in r.metrics]
    if metric is None or not found or len(found[0][metric]) > FEW_CLASSES:
        return []
    names = found[0].get("class_names") or range(len(found[0][metric]))
    return [
        Column(f"{name} IoU (%)", metric, _percent, True, place=place)
        for place, name in enumerate(names)
    ]


def _column(figure: Headline, title: str) -> Column:
    unit = f" ({figure.shown_unit})" if figure.shown_unit else ""
    text = _percent if figure.is_fraction else _ERROR
    return Column(f"{title}{unit}", figure.name, text, True)


def to_markdown(records: Sequence[StageRecord]) -> str:
    """Returns the table as plain Markdown."""
    header, rows = to_cells(records)
    rule = [":---"] + ["---:"] * (len(header) - 1)
    lines = [header, rule, *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def to_rich(records: Sequence[StageRecord]) -> Table:
    """Returns the table for the terminal."""
    header, rows = to_cells(records)
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    result.add_column(header[0], no_wrap=True)
    for title in header[1:]:
        title = textwrap.fill(title, 14)  # narrow enough for a terminal
        result.add_column(title, justify="right")
    for row in rows:
        # As Text, since a name may hold what rich takes for markup.
        result.add_row(*(Text(cell) for cell in row))
    return result


def latency_caption(records: Sequence[StageRecord]) -> str | None:
    """Says how the latencies were taken, if any were."""
    for record in records:
        metrics = record.metrics
        if metrics.get("latency_ms_p50") is not None:
            batch = metrics.get("latency_batch", 1)
            threads = metrics.get("latency_threads", 1)
            repeats = metrics.get("latency_repeats")
            runs = f", {repeats} runs" if repeats else ""
            if metrics.get("latency_in_a_row"):
                runs += f", {metrics['latency_in_a_row']} of each in turn"
            return (
                f"Latency: median on the CPU, batch of {batch}, "
                f"{threads} thread{'s' if threads > 1 else ''}{runs}."
            )
    return None
