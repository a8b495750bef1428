# SPDX-License-Identifier: Apache-2.0
"""Picture of a search: where it looked, what mattered, what it is worth."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from keras_kd.evaluation.gain import mean_interval
from keras_kd.report import panels
from keras_kd.tuning.display.formatting import change
from keras_kd.tuning.display.formatting import scale_of
from keras_kd.tuning.display.formatting import title_of
from keras_kd.tuning.display.importance import Importance
from keras_kd.tuning.display.landscape import ACCENT
from keras_kd.tuning.display.landscape import draw_landscape
from keras_kd.tuning.display.landscape import say
from keras_kd.tuning.trials.confirmed import SIDES
from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.tuning.trials.trial_record import TrialRecord

PIXELS = (2240, 800)
TITLES = (
    "Where the search looked",
    "What mattered (a hint)",
    "What it is worth",
)
SIDE_COLOURS = {"best": "#0072b2", "default": "#e69f00", "control": ACCENT}


def render(
    rows: Sequence[TrialRecord],
    objective: str,
    direction: str,
    confirmed: Confirmed | None,
    importance: Importance,
) -> bytes:
    """Returns one PNG of a search.

    Left, the objective over temperature and alpha, with every trial; the
    background is a Gaussian process fitted to them, where there are enough.
    In the middle, the importance of each hyperparameter. Right, the best
    settings beside default and control over fresh seeds. A panel that lacks
    its data says so.
    """
    return panels.png_of(
        plot(rows, objective, direction, confirmed, importance)
    )


def plot(rows, objective, direction, confirmed, importance):
    """Returns the matplotlib figure that `render` turns into a PNG."""
    figure = panels.figure_of(PIXELS)
    axes = figure.subplots(1, 3, width_ratios=(5, 3, 4))
    figure.get_layout_engine().set(wspace=0.06)
    for panel, title in zip(axes, TITLES, strict=True):
        panel.set_title(title, fontsize=11, loc="left", pad=16)
        panels.tidy(panel)
    left, middle, right = axes
    draw_landscape(figure, left, rows, objective, direction)
    _bars(middle, importance)
    _seeds(right, objective, confirmed)
    return figure


def _bars(panel, found):
    """Draws the importance of each hyperparameter."""
    if not found.shares:
        say(panel, str(found))
        return
    names = [textwrap.shorten(name, 24) for name in reversed(found.shares)]
    shares = [100 * share for share in reversed(found.shares.values())]
    bars = panel.barh(names, shares, color="#0072b2", height=0.6)
    panel.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=8.5)
    panel.set_xlim(0, 118)
    panel.set_ylim(-0.8, max(len(names), 4) - 0.2)
    panel.set_xlabel(
        f"share of the importance (%)\n{found.trials} trials, out-of-bag "
        f"R2 {found.r2:.2f}",
        fontsize=9,
    )


def _seeds(panel, objective, confirmed):
    """Draws best, default and control over the fresh seeds."""
    if confirmed is None:
        say(
            panel,
            "The best settings were not run again with fresh seeds, so what "
            "they are worth is not known.",
        )
        return
    scale = scale_of(objective)
    split = confirmed.split
    sides = [side for side in reversed(SIDES) if confirmed.values(side, split)]
    table = scale * np.array([confirmed.values(s, split) for s in sides])
    panel.plot(table, color="#bbbbbb", linewidth=0.7, zorder=1)
    for place, (side, values) in enumerate(zip(sides, table, strict=True)):
        colour = SIDE_COLOURS[side]
        panel.plot([place] * len(values), values, "o", color=colour, alpha=0.5)
        mean, low, high, _ = mean_interval(values)
        spread = None if low is None else [[mean - low], [high - mean]]
        panel.errorbar(
            place + 0.16,
            mean,
            spread,
            fmt="s",
            color=colour,
            capsize=4,
            markersize=6,
        )
    panel.set_xticks(range(len(sides)), sides)
    panel.set_xlim(-0.5, len(sides) - 0.4)
    panel.set_ylabel(f"{split} {title_of(objective.removeprefix('val_'))}")
    panel.yaxis.label.set_fontsize(9)
    panel.grid(axis="y", alpha=0.25, linewidth=0.6)
    lines = ["dots: seeds, in pairs; squares: mean, 95 % interval"]
    for side in SIDES[1:]:
        found = confirmed.best_minus(side, split)
        if found is not None:
            minus = change(found.mean, objective)
            lines.append(f"best minus {side}: {minus} ({found.verdict})")
    panel.set_xlabel("\n".join(lines), fontsize=9)
