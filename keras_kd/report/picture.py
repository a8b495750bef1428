# SPDX-License-Identifier: Apache-2.0
"""Picture: what each step keeps of the accuracy, and what it saves."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

from keras_kd.core.records import StageRecord
from keras_kd.core.records import write_atomically
from keras_kd.evaluation.gain import gain_of
from keras_kd.report import table

COLOURS = {
    "teacher": "#4d4d4d",
    "control": "#d55e00",
    "student": "#0072b2",
    "prune": "#009e73",
    "export": "#aa4499",
}
MARKERS = {
    "teacher": "s",
    "control": "X",
    "student": "o",
    "prune": "D",
    "export": "^",
}
AXES = (
    ("bytes", 1024, "size on disk (KiB)"),
    ("latency_ms_p50", 1, "latency per example, median (ms)"),
)
PIXELS = (1600, 720)
_DPI = 160


def draw(records: Sequence[StageRecord], path: str | os.PathLike) -> None:
    """Writes one PNG, atomically; see `render`.

    Args:
        records: Records of the stages, in any order.
        path: Where to write. The file ends in .png.
    """
    write_atomically(path, render(records))


def render(records: Sequence[StageRecord], split: str = "test") -> bytes:
    """Returns one PNG: accuracy against size and against latency.

    Small dots are the single seeds of the control and the student. A row
    that lacks a figure is left out of the panel that needs it.

    Args:
        records: Records of the stages, in any order.
        split: See `Report`.
    """
    # The object API leaves the caller's backend and pyplot alone.
    from matplotlib import ticker
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = table.order(records)
    is_accuracy = any("accuracy" in record.metrics for record in records)
    metric = "accuracy" if is_accuracy else "mean_absolute_error"
    scale = 100 if is_accuracy else 1
    figure = Figure(
        figsize=(PIXELS[0] / _DPI, PIXELS[1] / _DPI),
        dpi=_DPI,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(AXES), sharey=True)
    placed = []
    for panel, (cost, unit, title) in zip(panels, AXES, strict=True):
        points = [
            (record, record.metrics[cost] / unit, record.metrics[metric])
            for record in records
            if None
            not in (record.metrics.get(cost), record.metrics.get(metric))
        ]
        placed.append(_scatter(panel, points, scale))
        panel.set_xscale("log")
        panel.set_xlabel(title)
        panel.xaxis.set_major_locator(
            ticker.LogLocator(subs=(1, 3), numticks=12)
        )
        panel.xaxis.set_major_formatter(
            ticker.FuncFormatter(lambda value, _: f"{value:,g}")
        )
        panel.xaxis.set_minor_formatter(ticker.NullFormatter())
        panel.margins(x=0.18, y=0.18)
        panel.tick_params(labelsize=8.5)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(
        f"{split} accuracy (%)" if is_accuracy else "mean absolute error"
    )
    gain = gain_of(records)
    figure.suptitle(_title(gain), fontsize=11, x=0.01, ha="left")
    figure.draw_without_rendering()
    for panel, points in zip(panels, placed, strict=True):
        _label(figure, panel, points)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png")
    return buffer.getvalue()


def _title(gain: Any) -> str:
    if gain is None:
        return "Accuracy kept, size and latency saved"
    spread = (
        gain.verdict
        if gain.low is None
        else f"95 % interval {gain.low:+.2f} to {gain.high:+.2f}, "
        f"{gain.n} seeds: {gain.verdict}"
    )
    return f"Distilled minus control: {gain.mean:+.2f} points ({spread})"


def _scatter(panel, points, scale):
    """Draws markers and seeds; returns (name, x, y, colour, seeds) of each."""
    placed = []
    for record, x, value in points:
        colour = COLOURS[record.stage]
        seeds = [scale * a for a in record.metrics.get("accuracies") or []]
        panel.plot(
            [x] * len(seeds),
            seeds,
            linestyle="none",
            marker="o",
            markersize=3.2,
            color=colour,
            alpha=0.45,
            markeredgewidth=0,
        )
        panel.plot(
            x,
            scale * value,
            marker=MARKERS[record.stage],
            markersize=8,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )
        placed.append((record.name, x, scale * value, colour, seeds))
    if any(seeds for *_, seeds in placed):
        panel.annotate(
            "small dots: single seeds",
            (0.99, 0.02),
            xycoords="axes fraction",
            horizontalalignment="right",
            fontsize=7.5,
            color="#666666",
        )
    return placed


def _label(figure, panel, points):
    """Writes each name at the nearest free place, with a line to it."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()
    taken = []
    for _, x, y, _, seeds in points:
        for value, radius in [(y, 5), *((seed, 2) for seed in seeds)]:
            centre = panel.transData.transform((x, value))
            reach = radius * _DPI / 72
            taken.append(Bbox([centre - reach, centre + reach]))
    frame = panel.get_window_extent(renderer)
    for name, x, y, colour, _ in points:
        tried = []
        for dx, dy, align in _places():
            note = panel.annotate(
                name,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                horizontalalignment=align,
                verticalalignment="center",
                fontsize=8,
                color=colour,
                arrowprops=_line(colour) if abs(dy) > 12 else None,
            )
            note.update_positions(renderer)
            # Text's own extent: an annotation's includes the line.
            box = Text.get_window_extent(note, renderer)
            clashes = sum(box.overlaps(other) for other in taken)
            is_inside = frame.containsx(box.x0) and frame.containsx(box.x1)
            is_inside &= frame.containsy(box.y0) and frame.containsy(box.y1)
            tried.append((clashes + 5 * (not is_inside), note, box))
            if tried[-1][0] == 0:
                break
        best = min(tried, key=lambda one: one[0])
        for one in tried:
            if one is not best:
                one[1].remove()
        taken.append(best[2])


def _line(colour):
    return {
        "arrowstyle": "-",
        "color": colour,
        "alpha": 0.45,
        "linewidth": 0.7,
        "shrinkA": 1,
        "shrinkB": 4,
    }


def _places():
    """Yields offsets in points and alignments, near ones first."""
    yield from ((8, 0, "left"), (-8, 0, "right"))
    yield from ((0, 11, "center"), (0, -11, "center"))
    for distance in (18, 30, 42, 54, 66):
        for dy in (distance, -distance):
            yield from ((12, dy, "left"), (-12, dy, "right"))
            yield (0, dy, "center")
