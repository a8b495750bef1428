# SPDX-License-Identifier: Apache-2.0
"""Page of a run: one HTML file with every figure, and where it came from."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from html import escape
from typing import Any

from keras_kd.core.records import StageRecord
from keras_kd.evaluation import environment as environments
from keras_kd.evaluation.disagreements import Disagreements
from keras_kd.evaluation.examples import png_of
from keras_kd.report import html
from keras_kd.report import table
from keras_kd.report.same_runtime import TEACHER_FILE

CLASSES = 40
_COMPARED = ("teacher", "control", "student", "export")
_STYLE = """
td.bar { background: linear-gradient(90deg, #0072b244 var(--part), #0000 0); }
.gain { color: #007f5f; } .loss { color: #c0392b; }
.examples { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: 8.5rem; }
figure img { min-width: 0; image-rendering: pixelated; }
figcaption { font-size: .85rem; line-height: 1.3; }
details { margin: .4rem 0; } summary { cursor: pointer; }
"""


def render(
    records: Sequence[StageRecord],
    remarks: Sequence[str],
    picture: bytes,
    command: str,
    environment: dict[str, Any],
    lineage: Sequence[StageRecord] = (),
    disagreements: Disagreements | None = None,
) -> str:
    """Returns a run as one HTML document that needs nothing else.

    A part whose figures were not measured is left out.

    Args:
        records: Rows of the report.
        remarks: Sentences on the result, the most important first.
        picture: PNG of accuracy against size and latency.
        command: The command that made the run.
        environment: Machine and versions of the run.
        lineage: Its stages, see `read_lineage`.
        disagreements: Where student and teacher differ.
    """
    records = table.order(records)
    names = disagreements.class_names if disagreements else ()
    caption = "Test accuracy against size on disk and against latency"
    parts = [
        html.paragraphs(remarks[:1], "verdict"),
        html.paragraphs(remarks[1:]),
        html.section(
            "All figures",
            html.table(*table.to_cells(records, table.ALL_COLUMNS))
            + html.paragraphs(_explain(records), "small"),
        ),
        html.section(
            "Accuracy against size and latency",
            html.scroll(html.image(picture, caption)),
        ),
        html.section("Accuracy by class", _classes(records, names)),
        html.section(
            "Where student and teacher disagree",
            _disagreements(disagreements) if disagreements else "",
        ),
        html.section("Lineage", _lineage(lineage)),
        html.section(
            "Do it again",
            html.code(command)
            + html.paragraphs([environments.describe(environment)], "small"),
        ),
    ]
    return html.page("Distillation report", "\n".join(parts), _STYLE)


def _explain(records):
    """Says how the figures that a row has were taken."""
    told = {name for record in records for name in record.metrics}
    found = [table.latency_caption(records)]
    if "throughput_per_second" in told:
        metrics = next(
            r.metrics for r in records if "throughput_per_second" in r.metrics
        )
        found.append(
            f"Throughput: batches of {metrics['throughput_batch']}, median "
            f"of {metrics['throughput_repeats']}, on as many threads."
        )
    explained = {
        "peak_memory_bytes": (
            "Peak memory: what loading and running single examples adds to "
            "the resident set of a process that imported TensorFlow, its "
            "first use of the runtime's code included."
        ),
        "ece": (
            "ECE: expected calibration error, 15 bins of equal width (Guo et "
            "al., 2017)."
        ),
        "gzip_bytes": "gzip: level 6.",
    }
    found += [text for name, text in explained.items() if name in told]
    return [" ".join(filter(None, found))]


def _classes(records, names):
    compared = [
        [
            r
            for r in records
            if r.stage == stage
            and r.name != TEACHER_FILE
            and "class_accuracy" in r.metrics
        ]
        for stage in _COMPARED
    ]
    compared = [found[-1] for found in compared if found]
    if not compared:
        return ""
    columns = [record.metrics["class_accuracy"] for record in compared]
    rows = [
        (number, [column[number] for column in columns])
        for number in range(min(map(len, columns)))
    ]
    with_change = compared[0].stage == "teacher" and len(compared) > 1

    def change(row):
        _, values = row
        if not with_change or None in (values[0], values[-1]):
            return 0.0
        return values[-1] - values[0]

    note = ""
    if len(rows) > CLASSES:
        note = f"The {CLASSES} of {len(rows)} classes that change most."
        rows = sorted(rows, key=lambda row: -abs(change(row)))[:CLASSES]
    titles = ["class", *(f"{record.name} (%)" for record in compared)]
    if with_change:
        titles.append(f"{compared[-1].name} minus teacher (points)")
    lines = []
    for row in rows:
        cells = [f"<td>{escape(_class_name(row[0], names))}</td>"]
        cells += map(_bar, row[1])
        if with_change:
            points = 100 * change(row)
            kind = "gain" if points > 0 else "loss" if points < 0 else ""
            cells.append(f'<td class="{kind}">{points:+.2f}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return html.paragraphs([note] if note else []) + html.scroll(
        f"<table><tr>{head}</tr>{''.join(lines)}</table>"
    )


def _bar(value):
    if value is None:
        return f"<td>{table.MISSING}</td>"
    percent = f"{100 * value:.2f}"
    return f'<td class="bar" style="--part: {percent}%">{percent}</td>'


def _disagreements(found):
    neither = found.total - found.teacher_right - found.student_right
    share = found.total / max(found.examples, 1)
    text = (
        f"{found.student_name} and the teacher decide {found.total:,} of "
        f"{found.examples:,} test examples differently ({share:.2%}): the "
        f"teacher alone is right in {found.teacher_right:,}, the student "
        f"alone in {found.student_right:,}, neither in {neither:,}."
    )
    if len(found.numbers):
        text += " Below those of which the teacher is surest."
    told = [
        [
            f"true: {_class_name(label, found.class_names)}",
            f"teacher: {_class_name(teacher, found.class_names)}",
            f"student: {_class_name(student, found.class_names)}",
        ]
        for label, teacher, student in zip(
            found.labels, found.teacher, found.student, strict=True
        )
    ]
    if len(found.images):
        figures = "".join(
            f"<figure>{html.image(png_of(image), f'test example {number}')}"
            f"<figcaption>{'<br>'.join(map(escape, lines))}</figcaption>"
            "</figure>"
            for image, number, lines in zip(
                found.images, found.numbers, told, strict=True
            )
        )
        body = f'<div class="examples">{figures}</div>'
    elif len(found.texts):
        rows = [
            [str(number), *lines, *texts]
            for number, lines, texts in zip(
                found.numbers, told, found.texts.tolist(), strict=True
            )
        ]
        titles = ["test example", "true", "teacher", "student"]
        body = html.table([*titles, *found.columns], rows)
    else:
        body = ""
    return html.paragraphs([text]) + body


def _class_name(number, names):
    number = int(number)
    if number < 0:
        return table.MISSING
    return names[number] if number < len(names) else str(number)


def _lineage(stages):
    found = []
    for stage in stages:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(stage.created))
        took = f", {stage.seconds:.1f} s" if stage.seconds else ""
        title = escape(f"{stage.name} ({made} UTC{took})")
        settings = html.code(
            json.dumps(stage.settings, indent=1, ensure_ascii=False)
        )
        files = ""
        if stage.artefacts:
            files = html.table(["file", "sha256"], stage.artefacts.items())
        found.append(
            f"<details><summary>{title}</summary>{settings}{files}</details>"
        )
    return "".join(found)
