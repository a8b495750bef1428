# SPDX-License-Identifier: Apache-2.0
"""Landscape: the objective over temperature and alpha, with the trials."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.report import panels
from keras_kd.tuning.display.formatting import FIRST
from keras_kd.tuning.display.formatting import scale_of
from keras_kd.tuning.display.formatting import title_of
from keras_kd.tuning.display.formatting import with_unit
from keras_kd.tuning.display.importance import FEWEST
from keras_kd.tuning.trials.confirmed import DEFAULT
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

# Readable with any colour vision, and in grey.
COLOURS = "cividis"
ACCENT = "#d55e00"
GREY = "#555555"


def draw_landscape(
    figure: Any,
    panel: Any,
    rows: Sequence[TrialRecord],
    objective: str,
    direction: str = "max",
) -> None:
    """Draws the map into a panel of a figure, which gets a colour bar.

    The background is a Gaussian process fitted to the finished trials,
    where there are enough. The worst trials share the last colour, or one
    that diverged would leave no colours for the others.
    """
    taught = [row for row in rows if row.name != CONTROL]
    placed = [row for row in taught if set(FIRST) <= set(row.settings)]
    found = [row for row in placed if row.counts]
    if not found:
        say(
            panel,
            "No trial with a temperature and an alpha has ended with a value.",
        )
        return
    scale = scale_of(objective)
    controls = [r.objective for r in rows if r.counts and r.name == CONTROL]
    values = np.array([scale * row.objective for row in found])
    limits = _limits(values, direction)
    # Bright is good in either direction.
    colours = COLOURS if direction == "max" else f"{COLOURS}_r"
    style = {"cmap": colours, "vmin": limits[0], "vmax": limits[1]}
    temperatures = [row.settings["temperature"] for row in placed]
    temperatures += [DEFAULT["temperature"]]
    edges = (min(temperatures) / 1.25, max(temperatures) * 1.25)
    panels.plain_log_scale(panel, "{:g}", base=2)
    panel.set(xlim=edges, ylim=(-0.06, 1.06))
    smooth = _smooth(found, np.clip(values, *limits), edges)
    if smooth is not None:
        panel.pcolormesh(*smooth, **style, alpha=0.75, linewidth=0)

    def mark(some, marker, size, label, line, edge):
        return panel.scatter(
            *_places(some),
            c=[scale * row.objective for row in some],
            marker=marker,
            s=size,
            edgecolors=edge,
            linewidths=line,
            label=label,
            **style,
        )

    for status, marker in ((COMPLETED, "o"), (STOPPED, "v")):
        if some := [row for row in found if row.status == status]:
            mark(some, marker, 42, status, 0.7, "#222222")
    if failed := [row for row in placed if row.status == FAILED]:
        panel.scatter(
            *_places(failed), marker="x", s=34, c="black", label=FAILED
        )
    best = best_of(found, direction)
    title = f"best: {with_unit(best.objective, objective)}"
    points = mark([best], "*", 300, title, 1.1, "black")
    panel.scatter(
        *DEFAULT.values(),
        marker="D",
        s=70,
        facecolors="none",
        edgecolors=ACCENT,
        linewidths=1.8,
        label="default: T 4, alpha 0.7",
    )
    panel.set_xlabel("temperature", fontsize=9)
    panel.set_ylabel("alpha", fontsize=9)
    panel.text(
        0,
        1.01,
        _note(taught, placed, smooth),
        transform=panel.transAxes,
        fontsize=7.5,
        color=GREY,
    )
    panel.legend(
        fontsize=7.5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
        markerscale=0.7,
        ncols=3,
        frameon=False,
    )
    extend = "neither"
    if values.min() < limits[0] or values.max() > limits[1]:
        extend = "min" if direction == "max" else "max"
    bar = figure.colorbar(points, ax=panel, pad=0.04, extend=extend)
    bar.set_label(title_of(objective), fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    for value in controls:
        _mark(bar.ax, scale * value, limits, with_unit(value, objective))


def _mark(bar, value, limits, text):
    """Marks the control's value on the colour bar, or at its nearer end."""
    place = float(np.clip(value, *limits))
    where = " (below)" if value < place else " (above)" if value > place else ""
    is_low = place < np.mean(limits)
    bar.axhline(place, color="white", linewidth=5)
    bar.axhline(place, color=ACCENT, linewidth=2.5)
    bar.annotate(
        f"control {text}{where}",
        (0, place),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 0),
        textcoords="offset points",
        rotation=90,
        horizontalalignment="right",
        verticalalignment="bottom" if is_low else "top",
        fontsize=7.5,
        color=ACCENT,
    )


def _places(rows):
    return [[row.settings[name] for row in rows] for name in FIRST]


def _limits(values, direction):
    """Returns the ends of the colours."""
    ends = [0, 100]
    if len(values) >= FEWEST:
        ends = [15, 100] if direction == "max" else [0, 85]
    low, high = np.percentile(values, ends)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _smooth(rows, values, edges):
    """Returns the map's background, or `None` for too few trials."""
    places = np.array(_places(rows), float).T
    if len(rows) < FEWEST or (np.ptp(places, axis=0) == 0).any():
        return None
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF
    from sklearn.gaussian_process.kernels import WhiteKernel

    def inputs(temperature, alpha):
        log = np.log(temperature) / np.log(edges[1] / edges[0])
        return np.stack([np.ravel(log), np.ravel(alpha)], axis=1)

    kernel = RBF([0.5, 0.5], (0.15, 5.0)) + WhiteKernel(0.1, (1e-3, 10.0))
    process = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0
    )
    with warnings.catch_warnings():
        # A length or a noise at its bound is an answer here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(inputs(*places.T), values)
    grid = np.meshgrid(np.geomspace(*edges, 90), np.linspace(-0.06, 1.06, 90))
    return *grid, process.predict(inputs(*grid)).reshape(grid[0].shape)


def _note(taught, placed, smooth):
    notes = []
    if smooth is not None:
        notes.append("background: Gaussian process over the trials")
    missing = len(taught) - len(placed)
    if missing:
        trials = "trial" if missing == 1 else "trials"
        notes.append(f"{missing} {trials} without T or alpha not shown")
    return "; ".join(notes)


def say(panel: Any, text: str) -> None:
    """Says in words why a panel is empty."""
    panel.set_axis_off()
    panel.text(
        0.5,
        0.5,
        textwrap.fill(text, 34),
        transform=panel.transAxes,
        horizontalalignment="center",
        verticalalignment="center",
        fontsize=10,
        color=GREY,
    )
