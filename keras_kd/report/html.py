# SPDX-License-Identifier: Apache-2.0
"""HTML: pages that need nothing else, can be mailed and fit a phone."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  padding: 1rem; max-width: 72rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid #0072b2;
  padding-left: .8rem; }
.scroll { overflow-x: auto; }
img { width: 100%; min-width: 46rem; background: white; }
pre { padding: .8rem; overflow-x: auto; user-select: all;
  border: 1px solid #8888; border-radius: .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
small, .small { font-size: .85rem; overflow-wrap: anywhere; }
"""


def page(title: str, body: str, style: str = "") -> str:
    """Returns a whole HTML document.

    Args:
        title: Title and heading, as plain text.
        body: What follows the heading, as HTML.
        style: CSS in addition to the common one.
    """
    title = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}{style}</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """Returns a heading and what stands under it; nothing if that is empty."""
    return f"<h2>{html.escape(title)}</h2>\n{body}\n" if body else ""


def paragraphs(texts: Iterable[str], kind: str = "") -> str:
    """Returns plain texts as paragraphs of a class."""
    return "".join(
        f'<p class="{kind}">{html.escape(text)}</p>' for text in texts
    )


def code(text: str) -> str:
    """Returns plain text as a block to copy."""
    return f"<pre>{html.escape(text)}</pre>"


def image(png: bytes, alt: str) -> str:
    """Returns a picture that is part of the page."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def scroll(content: str) -> str:
    """Returns content that may be wider than the page."""
    return f'<div class="scroll">{content}</div>'


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    kinds: Iterable[str] | None = None,
) -> str:
    """Returns plain cells as a table that scrolls.

    Args:
        header: Column titles.
        rows: Cells of each row.
        kinds: Class of each row.
    """
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in header)
    rows = list(rows)
    lines = []
    for row, kind in zip(rows, kinds or [""] * len(rows), strict=True):
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        lines.append(f'<tr class="{html.escape(kind)}">{cells}</tr>')
    return scroll(f"<table><tr>{titles}</tr>{''.join(lines)}</table>")
