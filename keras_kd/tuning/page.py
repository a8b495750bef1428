# SPDX-License-Identifier: Apache-2.0
"""Page of a search: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import os
import string
from collections.abc import Sequence
from typing import Any

from keras_kd.records import write_atomically
from keras_kd.report import environment as environments
from keras_kd.tuning import picture
from keras_kd.tuning import table
from keras_kd.tuning.confirmed import Confirmed
from keras_kd.tuning.figures import scale_of
from keras_kd.tuning.figures import with_unit
from keras_kd.tuning.importance import importance
from keras_kd.tuning.rows import CONTROL
from keras_kd.tuning.rows import FAILED
from keras_kd.tuning.rows import Row
from keras_kd.tuning.rows import best_of

# What `kd.compress` takes; other settings belong to the student.
ARGUMENTS = ("temperature", "alpha", "learning_rate", "batch_size", "epochs")

_PAGE = string.Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Search: $objective</title>
<style>
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
tr.best { font-weight: bold; } tr.failed { color: #c0392b; }
small, .small { font-size: .85rem; overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1>Search over $trials trials: $objective ($better is better)</h1>
$verdict
<h2>Best settings</h2>
$settings
<h2>Picture</h2>
<div class="scroll"><img alt="Objective over temperature and alpha,
importance, and best against default against control"
src="data:image/png;base64,$picture"></div>
<h2>Importance of each setting</h2>
$importance
<h2>All trials</h2>
<div class="scroll">$table</div>
<p class="small">A star marks a trial that was the best when it ended. A
trial's $objective is the best over its epochs.</p>
$failures
<h2>Environment</h2>
$environment
</body>
</html>
"""
)


def write_page(
    path: str | os.PathLike,
    rows: Sequence[Row],
    objective: str,
    direction: str = "max",
    confirmed: Confirmed | None = None,
    notes: Sequence[str] = (),
    environment: dict[str, Any] | None = None,
) -> None:
    """Writes a search as one HTML file, atomically.

    The file holds its style and its picture, so it can be mailed; it reads
    on a phone too.

    Args:
        path: Where to write. The file ends in .html.
        rows: All trials, in the order in which they ended.
        objective: Name of the objective.
        direction: `"max"` or `"min"`.
        confirmed: The best settings run again, if they were.
        notes: More sentences under the verdict, such as warnings.
        environment: Machine and versions of the search. Defaults to this
            process'.
    """
    image = picture.render(rows, objective, direction, confirmed)
    found = environment or environments.environment()
    content = _PAGE.substitute(
        objective=html.escape(objective),
        trials=len(rows),
        better="higher" if direction == "max" else "lower",
        verdict=_paragraphs(
            [verdict(rows, objective, direction, confirmed)], "verdict"
        )
        + _paragraphs(notes),
        settings=_settings(rows, direction, confirmed),
        picture=base64.b64encode(image).decode("ascii"),
        importance=_importance(rows),
        table=_table(rows, objective, direction),
        failures=_failures(rows),
        environment=_paragraphs([environments.describe(found)], "small"),
    )
    write_atomically(path, content)


def verdict(
    rows: Sequence[Row],
    objective: str,
    direction: str = "max",
    confirmed: Confirmed | None = None,
) -> str:
    """Returns what the search found, and how sure that is, in sentences."""
    if confirmed is not None:
        return str(confirmed)
    best = best_of(rows, direction)
    if best is None:
        return "No trial with a teacher has ended with a value."
    value = with_unit(best.objective, objective)
    text = f"Best of the search: {value} in trial {best.name}. "
    control = [row for row in rows if row.counts and row.name == CONTROL]
    if control:
        scale = scale_of(objective)
        minus = scale * (best.objective - control[0].objective)
        unit = " points" if scale == 100 else ""
        text += (
            f"Control: {with_unit(control[0].objective, objective)}, so best "
            f"minus control is {minus:+.3g}{unit}. "
        )
    return text + (
        "These are single runs, not run again with fresh seeds: the best of "
        "many is best partly by chance, so a gain is not shown."
    )


def settings_code(settings: dict[str, Any]) -> str:
    """Returns Python that trains with the settings."""
    lines = ["kd.compress(", "    teacher,", "    build_student,"]
    lines += ["    data,", '    directory="run",']
    lines += [
        f"    {name}={settings[name]!r},"
        for name in ARGUMENTS
        if name in settings
    ]
    others = {k: v for k, v in settings.items() if k not in ARGUMENTS}
    lines.append(")")
    if others:
        # As a literal, since a name may hold a line break.
        lines.append(f"# also searched: {others!r}")
    return "\n".join(lines)


def _settings(rows, direction, confirmed):
    best = best_of(rows, direction)
    settings = confirmed.settings if confirmed else best and best.settings
    if not settings:
        return "<p>None yet.</p>"
    return f"<pre>{html.escape(settings_code(settings))}</pre>"


def _importance(rows):
    found = importance(rows)
    items = "".join(
        f"<li>{html.escape(name)}: {100 * share:.0f} %</li>"
        for name, share in found.shares.items()
    )
    return (f"<ol>{items}</ol>" if items else "") + _paragraphs([str(found)])


def _table(rows, objective, direction):
    header, cells = table.to_cells(rows, objective, direction)
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in header)
    best = best_of(rows, direction)
    lines = []
    for row, line in zip(rows, cells, strict=True):
        kind = "best" if row is best else row.status.replace(" ", "-")
        text = "".join(f"<td>{html.escape(cell)}</td>" for cell in line)
        lines.append(f'<tr class="{html.escape(kind)}">{text}</tr>')
    return f"<table><tr>{titles}</tr>{''.join(lines)}</table>"


def _failures(rows):
    return _paragraphs(
        [
            f"{row.name} failed: {row.message or 'no reason was kept'}"
            for row in rows
            if row.status == FAILED
        ],
        "small",
    )


def _paragraphs(texts, kind=""):
    return "".join(
        f'<p class="{kind}">{html.escape(text)}</p>' for text in texts
    )
