# SPDX-License-Identifier: Apache-2.0
"""Picture: what each step keeps of the accuracy, and what it saves."""

from __future__ import annotations

from collections.abc import Sequence

from keras_kd.core.records import StageRecord
from keras_kd.evaluation.gain import gain_of
from keras_kd.evaluation.gain import headline_of
from keras_kd.report import panels
from keras_kd.report import table
from keras_kd.tasks.headline import Headline

STYLES = {
    "teacher": ("#4d4d4d", "s"),
    "control": ("#d55e00", "X"),
    "student": ("#0072b2", "o"),
    "prune": ("#009e73", "D"),
    "export": ("#aa4499", "^"),
}
"""Colour and marker of each stage."""
AXES = (
    ("bytes", 1024, "size on disk (KiB)"),
    ("latency_ms_p50", 1, "latency per example, median (ms)"),
)
PIXELS = (1600, 720)
# Where a name may stand: offset in points and alignment, near ones first.
PLACES = (
    *((8, 0, "left"), (-8, 0, "right"), (0, 11, "center"), (0, -11, "center")),
    *(
        (dx, dy, align)
        for distance in (18, 30, 42, 54, 66)
        for dy in (distance, -distance)
        for dx, align in ((12, "left"), (-12, "right"), (0, "center"))
    ),
)


def render(records: Sequence[StageRecord], split: str = "test") -> bytes:
    """Returns one PNG: accuracy against size and against latency.

    Small dots are the single seeds of the control and the student. A row
    that lacks a number is left out of the panel that needs it; a teacher that
    has no size or latency is a line.
    """
    records = table.order(records)
    headline = headline_of(records)
    metric, scale = headline.name, headline.scale
    if not any(metric in record.metrics for record in records):
        headline = Headline("mean_absolute_error", "min", "")
        metric, scale = headline.name, 1.0
    unit_shown = f" ({headline.shown_unit})" if headline.shown_unit else ""
    figure = panels.figure_of(PIXELS)
    axes = figure.subplots(1, len(AXES), sharey=True)
    placed = []
    for panel, (cost, unit, title) in zip(axes, AXES, strict=True):
        points = [
            (r, r.metrics[cost] / unit, scale * r.metrics[metric])
            for r in records
            if None not in (r.metrics.get(cost), r.metrics.get(metric))
        ]
        placed.append([_scatter(panel, *point, scale) for point in points])
        for record in records:
            lacks_cost = record.metrics.get(cost) is None
            if record.name == "teacher" and lacks_cost:
                _line(panel, scale * record.metrics.get(metric, float("nan")))
        if any(seeds for *_, seeds in placed[-1]):
            panel.annotate(
                "small dots: single seeds",
                (0.99, 0.02),
                xycoords="axes fraction",
                horizontalalignment="right",
                fontsize=7.5,
                color="#666666",
            )
        panels.plain_log_scale(panel, "{:,g}", subs=(1, 3))
        panels.tidy(panel)
        panel.set_xlabel(title)
        panel.margins(x=0.18, y=0.18)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.set_axisbelow(True)
    told = (
        f"{split} {headline.title}"
        if headline.is_fraction
        else (headline.title)
    )
    axes[0].set_ylabel(f"{told}{unit_shown}")
    title = _title(gain_of(records))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.draw_without_rendering()
    for panel, points in zip(axes, placed, strict=True):
        _label(panel, points)
    return panels.png_of(figure)


def _title(gain):
    if gain is None:
        return "Accuracy kept, size and latency saved"
    spread = (
        gain.verdict
        if gain.low is None
        else f"95 % interval {gain.low:+z.2f} to {gain.high:+z.2f}, "
        f"{gain.n} seeds: {gain.verdict}"
    )
    if gain.headline is not None:
        unit = gain.headline.difference_unit
        told = f"{gain.mean:+.4g} {unit}".rstrip()
        return (
            f"Gain over the control, {gain.headline.title}: {told} ({spread})"
        )
    return f"Distilled minus control: {gain.mean:+z.2f} points ({spread})"


def _scatter(panel, record, x, y, scale):
    """Draws a row and its seeds; returns (name, x, y, colour, seeds)."""
    colour, marker = STYLES[record.stage]
    figures, values = record.metrics, []
    if "seeds" in figures:  # a file's `headlines` are of another kind
        values = figures.get("accuracies") or figures.get("headlines") or []
    seeds = [scale * value for value in values]
    dots = {"alpha": 0.45, "markersize": 3.2, "markeredgewidth": 0}
    panel.plot([x] * len(seeds), seeds, "o", color=colour, **dots)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.8}
    panel.plot(x, y, marker, color=colour, markersize=8, **edge)
    return record.name, x, y, colour, seeds


def _line(panel, y):
    """Draws what a teacher that is no Keras model reaches, at any cost."""
    colour, _ = STYLES["teacher"]
    panel.axhline(y, color=colour, linestyle="--", linewidth=1)
    panel.annotate(
        "teacher",
        (0.01, y),
        xycoords=panel.get_yaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8,
        color=colour,
    )


def _label(panel, points):
    """Writes each name at the nearest free place, with a line to it."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    renderer = panel.figure.canvas.get_renderer()
    frame = panel.get_window_extent(renderer)
    taken = [
        Bbox([centre, centre]).padded(radius * panels.DPI / 72)
        for _, x, y, _, seeds in points
        for value, radius in [(y, 5), *((seed, 2) for seed in seeds)]
        for centre in [panel.transData.transform((x, value))]
    ]
    for name, x, y, colour, _ in points:
        line = {"arrowstyle": "-", "color": colour, "alpha": 0.45}
        note = panel.annotate(
            name,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=8,
            color=colour,
            arrowprops={**line, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 4},
        )

        def put(place, note=note):
            dx, dy, align = place
            note.xyann = (dx, dy)
            note.set_horizontalalignment(align)
            note.arrow_patch.set_visible(abs(dy) > 12)
            note.update_positions(renderer)
            # Text's own extent: an annotation's includes the line.
            return Text.get_window_extent(note, renderer)

        def cost(place, put=put):
            box = put(place)
            is_inside = frame.contains(*box.min) and frame.contains(*box.max)
            return box.count_overlaps(taken) + 5 * (not is_inside)

        taken.append(put(min(PLACES, key=cost)))
