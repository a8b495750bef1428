# SPDX-License-Identifier: Apache-2.0
"""Curves: how a training went, epoch by epoch, as SVG inside a page."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 220, 8


def svg(
    series: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    title: str,
    text: str = "{:.4g}",
) -> str:
    """Returns lines over epochs as one SVG element, nothing without values.

    It takes the colours of the page, light or dark, and its width.

    Args:
        series: Values of each line, from the first epoch on.
        colours: Colour of each line.
        title: What the values are.
        text: Format of a value.
    """
    values = [value for line in series.values() for value in line]
    if not values:
        return ""
    low, high = min(values), max(values)
    epochs = max(map(len, series.values()))

    def point(epoch, value):
        x = MARGIN + (WIDTH - 2 * MARGIN) * epoch / max(epochs - 1, 1)
        share = (value - low) / ((high - low) or 1.0)
        return f"{x:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{escape(colours[name])}" '
        'stroke-width="2.5" points="'
        f'{" ".join(point(*pair) for pair in enumerate(line))}"/>'
        for name, line in series.items()
    )
    legend = "".join(
        f'<span style="color:{escape(colours[name])}">&#9632;</span> '
        f"{escape(name)} ({escape(text.format(line[-1]))} at the end) "
        for name, line in series.items()
    )
    ends = f"from {text.format(low)} to {text.format(high)}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{lines}</svg>'
        f'<p class="small">{escape(title)} over {epochs} epochs, '
        f"{escape(ends)}: {legend}</p>"
    )
