# SPDX-License-Identifier: Apache-2.0
"""HTML pages that need nothing else, can be mailed and fit a phone.

All text is given plain and escaped here; what a page says is its own affair.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --accent: #0072b2; --good: #00704f;
  --bad: #b3261e; --open: #8a5a00; --bar: #0072b244; }
@media (prefers-color-scheme: dark) { :root { --accent: #62b6ee;
  --good: #4cc79a; --bad: #ff8a80; --open: #e6b450; --bar: #62b6ee55; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  padding: 1rem; max-width: 76rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
a { color: var(--accent); }
.verdict { font-size: 1.1rem; border-left: 4px solid var(--accent);
  padding-left: .8rem; }
.headline { font-size: 1.6rem; font-weight: 600; line-height: 1.25;
  margin: 0 0 .5rem; border-left: 6px solid; padding-left: .8rem; }
.gain { color: var(--good); } .loss, tr.failed { color: var(--bad); }
.open { color: var(--open); }
dl { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: 1rem 0; }
dl div { display: flex; gap: .4rem; } dt { opacity: .7; }
dd { margin: 0; font-weight: 600; }
.scroll { overflow-x: auto; }
img { width: 100%; min-width: 46rem; background: white; }
.drawn img { min-width: 0; max-width: 40rem; }
svg { width: 100%; max-width: 46rem; border: 1px solid #8884; }
pre { padding: .8rem; overflow-x: auto; user-select: all;
  border: 1px solid #8888; border-radius: .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right;
  border-bottom: 1px solid #8884; overflow-wrap: normal; }
th { vertical-align: bottom; } td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: Canvas; }
td.bar { background: linear-gradient(90deg, var(--bar) var(--part), #0000 0); }
tr.best { font-weight: bold; }
.examples { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 8.5rem; }
figure img { min-width: 0; image-rendering: pixelated; }
figcaption { font-size: .85rem; line-height: 1.3; }
details { margin: .4rem 0; } summary { cursor: pointer; }
.small { font-size: .85rem; }
"""


def page(title: str, *parts: str) -> str:
    """Returns a whole HTML document: the title as heading, then the parts."""
    title, body = escape(title), "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, '
        f'initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Returns a heading and what stands under it; nothing if that is empty."""
    body = "".join(parts)
    return f"<h2>{escape(title)}</h2>\n{body}\n" if body else ""


def paragraphs(*texts: str, kind: str = "") -> str:
    """Returns texts as paragraphs of a class."""
    return "".join(f'<p class="{kind}">{escape(text)}</p>' for text in texts)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Returns names and values side by side; nothing if there are none."""
    found = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in pairs
    )
    return found and f"<dl>{found}</dl>"


def link(path: str, text: str) -> str:
    """Returns a paragraph that links to a file beside the page."""
    return f'<p><a href="{escape(path)}">{escape(text)}</a></p>'


def code(text: str) -> str:
    """Returns text as a block to copy."""
    return f"<pre>{escape(text)}</pre>"


def numbered(items: Iterable[str]) -> str:
    """Returns a numbered list; nothing if it is empty."""
    found = "".join(f"<li>{escape(item)}</li>" for item in items)
    return found and f"<ol>{found}</ol>"


def folded(title: str, *parts: str) -> str:
    """Returns parts that show when the title is clicked."""
    body = "".join(parts)
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def image(png: bytes, alt: str, kind: str = "scroll") -> str:
    """Returns a picture that is part of the page.

    One of the kind `"scroll"` may be wider than it, `"drawn"` shrinks.
    """
    return f'<div class="{kind}">{_image(png, alt)}</div>'


def gallery(pictures: Iterable[tuple[bytes, str, Sequence[str]]]) -> str:
    """Returns small pictures side by side: PNG, alt text, lines below."""
    figures = "".join(
        f"<figure>{_image(png, alt)}"
        f"<figcaption>{'<br>'.join(map(escape, lines))}</figcaption></figure>"
        for png, alt, lines in pictures
    )
    return f'<div class="examples">{figures}</div>'


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | tuple[str, dict]]],
    kinds: Iterable[str] | None = None,
) -> str:
    """Returns a table that scrolls.

    Args:
        header: Column titles.
        rows: Cells of each row: text, or `(text, HTML attributes)`.
        kinds: Class of each row.
    """
    rows = list(rows)
    titles = "".join(f"<th>{escape(title)}</th>" for title in header)
    lines = "".join(
        f'<tr class="{escape(kind)}">{"".join(map(_cell, row))}</tr>'
        for row, kind in zip(rows, kinds or [""] * len(rows), strict=True)
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{lines}</table></div>'


def _cell(cell):
    text, attributes = cell if isinstance(cell, tuple) else (cell, {})
    found = [f' {name}="{escape(value)}"' for name, value in attributes.items()]
    return f"<td{''.join(found)}>{escape(text)}</td>"


def _image(png, alt):
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
