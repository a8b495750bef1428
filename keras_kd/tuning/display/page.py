# SPDX-License-Identifier: Apache-2.0
"""Page of a search: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from typing import Any

from keras_kd.core.records import write_atomically
from keras_kd.evaluation import environment as environments
from keras_kd.report import html
from keras_kd.tuning.display import picture
from keras_kd.tuning.display import table
from keras_kd.tuning.display.formatting import scale_of
from keras_kd.tuning.display.formatting import with_unit
from keras_kd.tuning.display.importance import Importance
from keras_kd.tuning.display.importance import importance
from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

# What `kd.compress` takes; other settings belong to the student.
ARGUMENTS = ("temperature", "alpha", "learning_rate", "batch_size", "epochs")

_STYLE = "tr.best { font-weight: bold; } tr.failed { color: #c0392b; }\n"


def write_page(
    path: str | os.PathLike,
    rows: Sequence[TrialRecord],
    objective: str,
    direction: str = "max",
    confirmed: Confirmed | None = None,
    notes: Sequence[str] = (),
    environment: dict[str, Any] | None = None,
    mattered: Importance | None = None,
    image: bytes | None = None,
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
        mattered: The `importance` of these trials, if it is known.
        image: Their picture, if it is drawn.
    """
    found = environment or environments.environment()
    mattered = mattered or importance(rows)
    if image is None:
        image = picture.render(rows, objective, direction, confirmed, mattered)
    better = "higher" if direction == "max" else "lower"
    alt = (
        "Objective over temperature and alpha, importance, and best against "
        "default against control"
    )
    caption = (
        "A star marks a trial that was the best when it ended. A trial's "
        f"{objective} is the best over its epochs."
    )
    parts = [
        html.paragraphs(
            [verdict(rows, objective, direction, confirmed)], "verdict"
        ),
        html.paragraphs(notes),
        html.section("Best settings", _settings(rows, direction, confirmed)),
        html.section("Picture", html.scroll(html.image(image, alt))),
        html.section("Importance of each setting", _importance(mattered)),
        html.section(
            "All trials",
            _table(rows, objective, direction)
            + html.paragraphs([caption], "small"),
        ),
        _failures(rows),
        html.section(
            "Environment",
            html.paragraphs([environments.describe(found)], "small"),
        ),
    ]
    title = f"Search over {len(rows)} trials: {objective} ({better} is better)"
    write_atomically(path, html.page(title, "\n".join(parts), _STYLE))


def verdict(
    rows: Sequence[TrialRecord],
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
    return html.code(settings_code(settings))


def _importance(found):
    items = "".join(
        f"<li>{escape(name)}: {100 * share:.0f} %</li>"
        for name, share in found.shares.items()
    )
    return (f"<ol>{items}</ol>" if items else "") + html.paragraphs(
        [str(found)]
    )


def _table(rows, objective, direction):
    header, cells = table.to_cells(rows, objective, direction)
    best = best_of(rows, direction)
    kinds = [
        "best" if row is best else row.status.replace(" ", "-") for row in rows
    ]
    return html.table(header, cells, kinds)


def _failures(rows):
    return html.paragraphs(
        [
            f"{row.name} failed: {row.message or 'no reason was kept'}"
            for row in rows
            if row.status == FAILED
        ],
        "small",
    )
