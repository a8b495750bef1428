# SPDX-License-Identifier: Apache-2.0
"""The student's files against the teacher's: ratios, signs and words."""

from __future__ import annotations

import json

import pytest

from keras_kd.core.records import StageRecord
from keras_kd.report import Report
from keras_kd.report.same_runtime import TEACHER_FILE
from keras_kd.report.same_runtime import compare


def record(stage, name, size, ms=None, accuracy=None, threads=1):
    metrics = {"bytes": size}
    if ms is not None:
        metrics |= {"latency_ms_p50": ms, "latency_threads": threads}
    if accuracy is not None:
        metrics["accuracy"] = accuracy
    return StageRecord(stage, name, metrics=metrics)


def run(*student, teacher=(1_000_000, 0.2, 0.92)):
    return [
        record("teacher", "teacher", 9, 9.0, 0.5),
        record("teacher", TEACHER_FILE, *teacher),
        record("export", "SavedModel", 9, 9.0, 0.5),
        *(record("export", *one) for one in student),
    ]


def test_comparison_is_of_the_files_alone():
    float32, int8 = compare(
        run(
            (".float32.tflite", 100_000, 0.02, 0.925),
            (".int8.tflite", 20_000, 0.008, 0.909),
        )
    )
    assert (float32.name, int8.name) == (".float32.tflite", ".int8.tflite")
    assert int8.faster == pytest.approx(25)
    assert int8.smaller == pytest.approx(50)
    assert int8.points == pytest.approx(-1.1)
    assert str(int8) == (
        ".int8.tflite against the teacher's float32 .tflite, both in LiteRT at "
        "batch 1 on one thread: 25.0 times faster, 50.0 times smaller, "
        "accuracy -1.10 points."
    )
    assert "accuracy +0.50 points" in str(float32)


def test_comparison_says_slower_and_larger():
    (found,) = compare(run((".tflite", 4_000_000, 0.5, 0.92, 2)))
    assert "on 2 threads: 2.5 times slower, 4.0 times larger" in str(found)
    assert "accuracy +0.00 points" in str(found)


def test_comparison_leaves_out_what_was_not_measured():
    (found,) = compare(run((".tflite", 500_000), teacher=(1_000_000,)))
    assert found.faster is None and found.points is None
    assert str(found).endswith("one thread: 2.0 times smaller.")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.95, "3.00 points better"), (0.90, "2.00 points worse")],
)
def test_comparison_by_another_figure_says_better_or_worse(value, told):
    rows = run((".tflite", 500_000, 0.1, 0.9))
    for row in rows:
        row.metrics["headline"] = {"name": "mean_iou"}
        row.metrics["mean_iou"] = value if row.name == ".tflite" else 0.92
    (found,) = compare(rows)
    assert f"mean iou {told}." in str(found)


def test_comparison_needs_the_teachers_file():
    records = run((".tflite", 500_000, 0.1, 0.9))
    assert compare(records)
    assert compare([r for r in records if r.name != TEACHER_FILE]) == []


@pytest.mark.usefixtures("no_picture")
def test_report_tells_the_comparison_and_keeps_it(tmp_path):
    report = Report(tmp_path, run((".tflite", 20_000, 0.008, 0.909)))
    (sentence,) = map(str, report.comparisons)
    report.save()
    (kept,) = json.loads((tmp_path / "report.json").read_text())["comparisons"]
    assert kept["faster"] == pytest.approx(25) and kept["text"] == sentence
    assert sentence in " ".join(repr(report).split())
    assert sentence in (tmp_path / "report.md").read_text("utf-8")
    assert "25.0 times faster" in (tmp_path / "report.html").read_text("utf-8")
    assert Report.load(tmp_path).comparisons == report.comparisons
