# SPDX-License-Identifier: Apache-2.0
"""Panels: what the pictures of a run and of a search have in common."""

from __future__ import annotations

import io
from typing import Any

DPI = 160


def figure_of(pixels: tuple[int, int]) -> Any:
    """Returns an empty matplotlib figure of this width and height."""
    # The object API leaves the caller's backend and pyplot alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = pixels[0] / DPI, pixels[1] / DPI
    figure = Figure(size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(panel: Any) -> None:
    """Gives a panel the look that all have."""
    panel.tick_params(labelsize=8.5)
    panel.spines[["top", "right"]].set_visible(False)


def plain_log_scale(panel: Any, text: str, **locator: Any) -> None:
    """Makes the x axis logarithmic, with numbers of a format written out.

    `locator` are arguments of matplotlib's `LogLocator`.
    """
    from matplotlib import ticker

    panel.set_xscale("log")
    axis = panel.xaxis
    axis.set_major_locator(ticker.LogLocator(numticks=12, **locator))
    axis.set_major_formatter(lambda value, _: text.format(value))
    axis.set_minor_formatter(ticker.NullFormatter())


def png_of(figure: Any) -> bytes:
    """Returns a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    return buffer.getvalue()
