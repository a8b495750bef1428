# SPDX-License-Identifier: Apache-2.0
"""Page of a search: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_kd.evaluation import environment as environments
from keras_kd.report import page_builder as html
from keras_kd.tuning.display import table
from keras_kd.tuning.display.formatting import change
from keras_kd.tuning.display.formatting import scale_of
from keras_kd.tuning.display.formatting import with_unit
from keras_kd.tuning.display.importance import Importance
from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of

# What `kd.compress` takes; other settings belong to the student.
ARGUMENTS = ("temperature", "alpha", "learning_rate", "batch_size", "epochs")
ALT = (
    "Objective over temperature and alpha, importance, and best against "
    "default against control"
)
CAPTION = (
    "A star marks a trial that was the best when it ended. A trial's {} is "
    "the best over its epochs."
)


def render(
    rows: Sequence[TrialRecord],
    objective: str,
    direction: str,
    confirmed: Confirmed | None,
    importance: Importance,
    picture: bytes,
) -> str:
    """Returns a search as one HTML document, with `picture`, a PNG of it."""
    best = best_of(rows, direction)
    better = "higher" if direction == "max" else "lower"
    settings = confirmed.settings if confirmed else best and best.settings
    kinds = [
        "best" if row is best else row.status.replace(" ", "-") for row in rows
    ]
    failures = [
        f"{row.name} failed: {row.message or 'no reason was kept'}"
        for row in rows
        if row.status == FAILED
    ]
    return html.page(
        f"Search over {len(rows)} trials: {objective} ({better} is better)",
        html.paragraphs(
            verdict(rows, objective, direction, confirmed), kind="verdict"
        ),
        html.section(
            "Best settings",
            html.code(settings_code(settings))
            if settings
            else html.paragraphs("None yet."),
        ),
        html.section("Picture", html.image(picture, ALT)),
        html.section(
            "Importance of each setting",
            html.numbered(
                f"{name}: {100 * share:.0f} %"
                for name, share in importance.shares.items()
            ),
            html.paragraphs(str(importance)),
        ),
        html.section(
            "All trials",
            html.table(*table.to_cells(rows, objective, direction), kinds),
            html.paragraphs(CAPTION.format(objective), kind="small"),
        ),
        html.paragraphs(*failures, kind="small"),
        html.section(
            "Environment",
            html.paragraphs(
                environments.describe(environments.environment()), kind="small"
            ),
        ),
    )


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
    for row in rows:
        if row.counts and row.name == CONTROL:
            minus = scale_of(objective) * (best.objective - row.objective)
            text += (
                f"Control: {with_unit(row.objective, objective)}, so best "
                f"minus control is {change(minus, objective)}. "
            )
    return text + (
        "These are single runs, not run again with fresh seeds: the best of "
        "many is best partly by chance, so a gain is not shown."
    )


def settings_code(settings: dict[str, Any]) -> str:
    """Returns Python that trains with the settings."""
    given = {name: settings[name] for name in ARGUMENTS if name in settings}
    others = {k: v for k, v in settings.items() if k not in given}
    arguments = ["teacher", "build_student", "data", 'directory="run"']
    arguments += [f"{name}={value!r}" for name, value in given.items()]
    lines = ["kd.compress(", *(f"    {text}," for text in arguments), ")"]
    if others:
        # As a literal, since a name may hold a line break.
        lines.append(f"# also searched: {others!r}")
    return "\n".join(lines)
