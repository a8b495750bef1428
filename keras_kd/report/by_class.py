# SPDX-License-Identifier: Apache-2.0
"""By class: what a mean over the classes hides."""

from __future__ import annotations

from collections.abc import Sequence

from keras_kd.core.records import StageRecord
from keras_kd.report import page_builder as html
from keras_kd.report import table
from keras_kd.report.same_runtime import TEACHER_FILE

CLASSES = 40


def section(
    records: Sequence[StageRecord], names: Sequence[str]
) -> tuple[str, str]:
    """Compares teacher, control, student and the last file, class by class.

    Returns:
        The title of the section, and its HTML; empty where no figure by class
        was measured.
    """
    metric = table.class_figure(records) or "class_accuracy"
    what = "IoU" if metric.endswith("iou") else "Accuracy"
    title = f"{what} by class"
    by_stage = {
        record.stage: record
        for record in records
        if record.stage != "prune"
        and record.name != TEACHER_FILE
        and metric in record.metrics
    }
    if not by_stage:
        return title, ""
    compared = list(by_stage.values())
    names = names or compared[-1].metrics.get("class_names", ())
    columns = [record.metrics[metric] for record in compared]
    rows = list(enumerate(zip(*columns, strict=False)))
    titles = ["class", *(f"{record.name} (%)" for record in compared)]
    with_change = "teacher" in by_stage and len(compared) > 1
    if with_change:
        titles.append(f"{compared[-1].name} minus teacher (points)")

    def change(row):
        first, last = row[1][0], row[1][-1]
        return last - first if with_change and None not in (first, last) else 0

    note = []
    if len(rows) > CLASSES:
        note = [f"The {CLASSES} of {len(rows)} classes that change most."]
        rows = sorted(rows, key=lambda row: -abs(change(row)))[:CLASSES]
    lines = [
        [class_name(row[0], names), *map(_bar, row[1])]
        + [_points(100 * change(row))] * with_change
        for row in rows
    ]
    return title, html.paragraphs(*note) + html.table(titles, lines)


def _bar(value):
    if value is None:
        return table.MISSING
    percent = f"{100 * value:.2f}"
    return percent, {"class": "bar", "style": f"--part: {percent}%"}


def _points(points):
    kind = "gain" if points > 0 else "loss" if points < 0 else ""
    return f"{points:+z.2f}", {"class": kind}


def class_name(number: int, names: Sequence[str]) -> str:
    """Returns what a class is called; a dash for none."""
    number = int(number)
    if number < 0:
        return table.MISSING
    return names[number] if number < len(names) else str(number)
