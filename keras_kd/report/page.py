# SPDX-License-Identifier: Apache-2.0
"""Page of a run: one HTML file with all it measured, and where it came from."""

from __future__ import annotations

import json
import time
from typing import Any

from keras_kd.evaluation import environment as environments
from keras_kd.evaluation.disagreements import FILE
from keras_kd.evaluation.disagreements import Disagreements
from keras_kd.evaluation.examples import png_of
from keras_kd.evaluation.gain import headline_of
from keras_kd.report import by_class
from keras_kd.report import curves
from keras_kd.report import examples
from keras_kd.report import headline
from keras_kd.report import page_builder as html
from keras_kd.report import table
from keras_kd.report.by_class import class_name
from keras_kd.report.picture import STYLES

SEARCH = "search/search.html"
# Two tables, so that a laptop shows every column.
SPEED = tuple(
    column
    for column in table.ALL_COLUMNS
    if column.metric.startswith(("latency", "throughput", "peak"))
    or column.metric == "max_difference"
)
QUALITY = tuple(c for c in table.ALL_COLUMNS if c not in SPEED)
EXPLAINED = {
    "peak_memory_bytes": (
        "Peak memory: what loading and running single examples adds to the "
        "resident set of a process that imported TensorFlow, its first use of "
        "the runtime's code included."
    ),
    "ece": (
        "ECE: expected calibration error, 15 bins of equal width (Guo et al., "
        "2017)."
    ),
    "gzip_bytes": "gzip: level 6.",
}


def render(report: Any, picture: bytes) -> str:
    """Returns a `Report` as one HTML document that needs nothing else.

    A part that was not measured is left out. `picture` is the PNG of
    accuracy against size and latency.
    """
    records, split = report.records, report.split
    told_below = table.latency_caption(records)
    remarks = [text for text in report.remarks if text != told_below]
    try:
        found = Disagreements.load(report.directory / "stages" / FILE)
    except FileNotFoundError:
        found = None
    except ValueError as error:
        found, remarks = None, [*remarks, str(error)]
    names = found.class_names if found else ()
    machine = environments.describe(report.environment)
    caption = (
        f"{split.capitalize()} accuracy against size on disk and against "
        "latency"
    )
    verdict, kind = headline.verdict(report.gain)
    has_students = any(record.stage == "student" for record in records)
    return html.page(
        f"{report.directory.absolute().name}: distillation report",
        html.paragraphs(verdict, kind=f"headline {kind}") * has_students,
        html.paragraphs(*remarks[:1]),
        html.facts(headline.settings(records)),
        html.paragraphs(*remarks[1:], kind="small"),
        html.section(
            "Quality and size",
            html.table(*table.to_cells(records, QUALITY)),
        ),
        html.section(
            "Speed",
            html.table(*table.to_cells(records, SPEED, judged=False))
            * _is_timed(records),
            html.paragraphs(_explain(records), kind="small"),
        ),
        html.section(
            "Accuracy against size and latency", html.image(picture, caption)
        ),
        html.section("How the training went", _curves(records, report)),
        html.section(*by_class.section(records, names)),
        html.section(
            "Where student and teacher disagree",
            _disagreements(found, split) if found else "",
        ),
        html.section(
            f"Examples of the {split} split",
            _examples(report.directory / "stages" / examples.FILE, records),
        ),
        html.section("Lineage", *map(_stage, report.lineage)),
        html.section(
            "Reproduce this run",
            html.code(report.command),
            html.paragraphs(machine, kind="small"),
        ),
    )


def _is_timed(records):
    return any(
        column.cell(record) != table.MISSING
        for column in SPEED
        for record in records
    )


def _curves(records, report):
    """Draws the headline on validation, and links what a search left."""
    told = headline_of(records)
    lines = {
        record.name: record.metrics["history"][f"val_{told.name}"]
        for record in records
        if f"val_{told.name}" in record.metrics.get("history", {})
    }
    stages = {record.name: STYLES[record.stage][0] for record in records}
    text = "{:.2%}" if told.is_fraction else "{:.4g}"
    drawn = curves.svg(lines, stages, f"Validation {told.title}", text)
    if (report.directory / SEARCH).is_file():
        drawn += html.link(SEARCH, "The trials of the search")
        drawn += html.code("tensorboard --logdir search/logs")
    return drawn


def _explain(records):
    """Says how the numbers that a row has were taken."""
    told = {}
    for record in records:
        told = {**record.metrics, **told}
    found = [table.latency_caption(records)]
    if "throughput_per_second" in told:
        found.append(
            f"Throughput: batches of {told['throughput_batch']}, median of "
            f"{told['throughput_repeats']}, on as many threads."
        )
    found += [text for name, text in EXPLAINED.items() if name in told]
    return " ".join(filter(None, found))


def _disagreements(found, split):
    neither = found.total - found.teacher_right - found.student_right
    share = found.total / max(found.examples, 1)
    text = (
        f"{found.student_name} and the teacher decide {found.total:,} of "
        f"{found.examples:,} {split} examples differently ({share:.2%}): the "
        f"teacher alone is right in {found.teacher_right:,}, the student "
        f"alone in {found.student_right:,}, neither in {neither:,}."
    )
    if len(found.numbers):
        text += " Below those of which the teacher is surest."
    sides = {
        "true": found.labels,
        "teacher": found.teacher,
        "student": found.student,
    }
    columns = [
        [f"{side}: {class_name(n, found.class_names)}" for n in numbers]
        for side, numbers in sides.items()
    ]
    told = list(zip(*columns, strict=True))
    body = ""
    if len(found.images):
        alts = [f"{split} example {number}" for number in found.numbers]
        pngs = map(png_of, found.images)
        body = html.gallery(zip(pngs, alts, told, strict=True))
    elif len(found.texts):
        titles = [f"{split} example", *sides, *found.columns]
        rows = zip(found.numbers, told, found.texts.tolist(), strict=True)
        body = html.table(
            titles, [[str(n), *lines, *texts] for n, lines, texts in rows]
        )
    return html.paragraphs(text) + body


def _examples(path, records):
    """Shows what the task drew; its student is the file of the last row."""
    if not path.is_file():
        return ""
    judged = headline_of(records).name
    files = [
        record.name
        for record in records
        if record.stage == "export" and judged in record.metrics
    ]
    text = "Spread evenly over the split, not chosen. The student is "
    text += f"{files[-1]}." if files else "the last file."
    alt = "label, teacher and student of single examples"
    return html.paragraphs(text) + html.image(path.read_bytes(), alt, "drawn")


def _stage(stage):
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(stage.created))
    took = f", {stage.seconds:.1f} s" if stage.seconds else ""
    settings = json.dumps(stage.settings, indent=1, ensure_ascii=False)
    files = stage.artefacts and html.table(
        ["file", "sha256"], stage.artefacts.items()
    )
    return html.folded(
        f"{stage.name} ({made} UTC{took})", html.code(settings), files or ""
    )
