# SPDX-License-Identifier: Apache-2.0
"""The report shows what the records hold, no more and no less."""

from __future__ import annotations

import ast
import io
import json
import pathlib
import struct
import sys

import pytest

from keras_kd.core.records import StageRecord
from keras_kd.report import Report
from keras_kd.report import picture
from keras_kd.report import table
from selection import quick

CONTROL = [0.900, 0.910, 0.890]
DISTILLED = [0.921, 0.930, 0.915]


def records(distilled=DISTILLED):
    """A run's records, out of order and with figures missing."""
    teacher = {
        "accuracy": 0.95,
        "parameters": 1_300_000,
        "bytes": 5_200_000,
        "latency_ms_p50": 4.3,
        "latency_repeats": 200,
    }
    small = {
        "parameters": 47_500,
        "nonzero_parameters": 47_000,
        "bytes": 190_000,
        "latency_ms_p50": 0.41,
        "seeds": [0, 1, 2],
    }
    control = {**small, "accuracy": 0.9, "accuracies": CONTROL}
    student = {
        **small,
        "accuracy": distilled[0],
        "accuracies": distilled,
        "agreement": 0.9345,
    }
    return [
        StageRecord(
            "export",
            ".tflite | int8",
            metrics={"bytes": 45_056, "max_difference": 0.12},
        ),
        StageRecord("student", "distilled", metrics=student),
        StageRecord("control", "control", metrics=control),
        StageRecord("teacher", "teacher", metrics=teacher),
    ]


def test_table_cells_carry_human_units():
    header, rows = table.to_cells(records())
    assert header == [
        "model",
        "accuracy (%)",
        "agreement with teacher (%)",
        "parameters",
        "non-zero parameters",
        "size (KiB)",
        "latency p50 (ms)",
        "max. difference",
    ]
    assert rows == [
        ["teacher", "95.00", "–", "1,300,000", "–", "5,078.1", "4.300", "–"],
        ["control", "90.00", "–", "47,500", "47,000", "185.5", "0.410", "–"],
        [
            "distilled",
            *("92.10", "93.45", "47,500", "47,000", "185.5", "0.410", "–"),
        ],
        [".tflite | int8", "–", "–", "–", "–", "44.0", "–", "1.2e-01"],
    ]


def test_table_shows_an_en_dash_for_nan_and_none():
    metrics = {"accuracy": float("nan"), "bytes": None}
    header, (row,) = table.to_cells([StageRecord("prune", "p", {}, metrics)])
    assert "accuracy (%)" not in header
    assert set(row[1:]) == {"–"}


def test_table_has_the_error_of_a_regression():
    metrics = {"mean_absolute_error": 1.23456}
    header, (row,) = table.to_cells([StageRecord("teacher", "t", {}, metrics)])
    assert row[header.index("mean absolute error")] == "1.235"
    assert "accuracy (%)" not in header


def test_table_refuses_an_unknown_stage():
    with pytest.raises(ValueError, match="must be one of.*'distil'"):
        table.to_cells([StageRecord("distil", "x")])


def test_markdown_has_one_column_count_in_all_lines():
    lines = table.to_markdown(records()).strip().splitlines()
    assert len(lines) == 6
    counts = {line.replace("\\|", "").count("|") for line in lines}
    assert counts == {9}
    assert ".tflite \\| int8" in lines[-1]


def test_report_prints_rows_gain_and_notes(tmp_path):
    report = Report(tmp_path, records(), notes=["Mind the [teacher]."])
    text = repr(report)
    for expected in ("distilled", "92.10", "5,078.1", "Mind the [teacher]."):
        assert expected in text
    assert report.rows[2]["accuracy (%)"] == "92.10"
    assert report.gain.n == 3
    assert str(report.gain) in report.to_markdown()
    assert "batch of 1, 1 thread, 200 runs" in report.to_markdown()


def test_report_says_how_often_each_was_timed_in_a_row(tmp_path):
    shown = records()
    for record in shown:
        record.metrics["latency_in_a_row"] = 10
    text = Report(tmp_path, shown).to_markdown()
    assert "1 thread, 200 runs, 10 of each in turn." in text


def test_report_says_no_gain_in_words(tmp_path):
    report = Report(tmp_path, records(distilled=[0.901, 0.905, 0.895]))
    assert report.gain.verdict == "no gain"
    assert "No gain:" in " ".join(repr(report).split())  # lines are wrapped
    assert "No gain:" in report.to_markdown()


def test_report_says_that_there_was_no_control(tmp_path):
    without = [r for r in records() if r.stage != "control"]
    report = Report(tmp_path, without)
    assert report.gain is None
    assert "No control was trained" in report.to_markdown()


def test_report_round_trip(tmp_path):
    report = Report(tmp_path, records(), ["A note."], command="keras-kd run x")
    report.save()
    loaded = Report.load(tmp_path)
    assert loaded.records == report.records
    assert loaded.gain == report.gain
    assert loaded.environment == report.environment
    assert loaded.to_markdown() == report.to_markdown()
    assert (tmp_path / "report.md").read_text() == report.to_markdown()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"report.{kind}" for kind in ("json", "md", "png", "html")}


@pytest.mark.usefixtures("no_picture")
def test_report_json_states_versions_machine_and_command(tmp_path):
    Report(tmp_path, records(), command="keras-kd run digits").save()
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["command"] == "keras-kd run digits"
    assert content["gain"]["verdict"] == "gain"
    environment = content["environment"]
    assert environment["versions"]["keras"].startswith("3.")
    assert environment["versions"]["tensorflow"]
    assert environment["cores"] >= 1
    assert environment["python"] == sys.version.split()[0]


def test_report_load_refuses_another_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        Report.load(tmp_path)
    (tmp_path / "report.json").write_text('{"records": 3}')
    with pytest.raises(ValueError, match="is not a report"):
        Report.load(tmp_path)


@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize(
    ("old", "new"),
    [("0.921", "0.999"), ('"notes"', '"motes"'), ('"seal"', '"seam"')],
)
def test_report_that_was_edited_is_refused(tmp_path, old, new):
    path = Report(tmp_path, records(), command="x").save() / "report.json"
    assert len(Report.load(tmp_path).records) == 4
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match="report.json is"):
        Report.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", '{"records": {}}', "[" * 100_000])
def test_report_of_other_json_is_refused(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match="is not a report"):
        Report.load(tmp_path)


@pytest.fixture(scope="module")
def drawn():
    """The picture of all records."""
    return picture.render(records())


def test_picture_is_a_png_of_the_stated_size(drawn):
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", drawn[16:24]) == picture.PIXELS


def segmentation_records(classes=3):
    """A student, and a file of it that lost the last class."""
    judged = {"headline": {"name": "mean_iou"}, "class_names": list("abcd")}
    return [
        StageRecord(
            stage,
            name,
            metrics={
                **(judged if classes < 5 else {**judged, "class_names": []}),
                "mean_iou": 0.5,
                "class_iou": [0.75, *[None] * (classes - 2), lake],
                **more,
            },
        )
        for stage, name, lake, more in (
            ("student", "distilled", 0.25, {"seeds": [0], "headlines": [0.5]}),
            # What the export of a file cost is told under the same name.
            ("export", ".tflite", 0.0, {"headlines": {"mean_iou": {}}}),
        )
    ]


def test_table_shows_the_iou_of_each_class_beside_its_mean():
    shown = segmentation_records(4)
    header, rows = table.to_cells(shown)
    ious = [f"{name} IoU (%)" for name in "ad"]  # b and c are nowhere
    assert header[:4] == ["model", "mean iou (%)", *ious]
    assert rows[0][1:4] == ["50.00", "75.00", "25.00"]
    assert rows[1][1:4] == ["50.00", "75.00", "0.00"]
    assert not set(ious) & set(table.to_cells(segmentation_records(5))[0])


@pytest.mark.usefixtures("no_picture")
def test_page_shows_the_iou_of_many_classes(tmp_path):
    Report(tmp_path, segmentation_records(6)).save()
    page = (tmp_path / "report.html").read_text()
    assert "IoU by class" in page and ">25.00<" in page


def ink(png, colour):
    """Counts the pixels of a colour in a picture."""
    from matplotlib import image

    pixels = image.imread(io.BytesIO(png))[..., :3]
    return int((abs(pixels - colour).max(axis=-1) < 0.01).sum())


@pytest.mark.parametrize("stage", quick(1, ["teacher", "control", "student"]))
def test_picture_shows_every_row(stage, drawn):
    from matplotlib import colors

    colour = colors.to_rgb(picture.STYLES[stage][0])
    without = [r for r in records() if r.stage != stage]
    found = ink(drawn, colour) - ink(picture.render(without), colour)
    assert found > 100


@pytest.mark.parametrize("stage", quick(1, ["control", "student"]))
def test_picture_shows_the_seeds_as_pale_dots(stage, drawn):
    from matplotlib import colors

    opaque = colors.to_rgb(picture.STYLES[stage][0])
    pale = [0.45 * part + 0.55 for part in opaque]
    shown = records()
    for record in shown:
        record.metrics.pop("accuracies", None)
    assert ink(drawn, pale) - ink(picture.render(shown), pale) > 20


def test_picture_shows_a_teacher_without_a_size_as_a_line():
    from matplotlib import colors

    colour = colors.to_rgb(picture.STYLES["teacher"][0])
    shown = [r for r in records() if r.stage != "teacher"]
    without = ink(picture.render(shown), colour)
    shown.append(StageRecord("teacher", "teacher", metrics={"accuracy": 0.95}))
    assert ink(picture.render(shown), colour) - without > 500  # pixels


def test_picture_of_an_int8_file_that_was_judged_by_its_headline():
    shown = records()
    judged = {"accuracy": {"model": 0.9, "file": 0.8}}
    shown[0].metrics |= {"accuracy": 0.8, "headlines": judged}
    assert picture.render(shown)


def test_figure_beside_a_headline_is_shown_beside_that_alone():
    names = ("mean_average_precision", "accuracy")
    for name, shown in zip(names, (True, False), strict=True):
        headline = {"name": name, "direction": "max", "unit": ""}
        metrics = {name: 0.5, "macro_f1": 0.4, "headline": headline}
        record = StageRecord("teacher", "teacher", metrics=metrics)
        header, (row,) = table.to_cells([record])
        assert ("macro-F1 (%)" in header) == ("40.00" in row) == shown


def test_picture_leaves_the_users_matplotlib_alone():
    import matplotlib
    from matplotlib import pyplot

    backend = matplotlib.get_backend()
    figures = pyplot.get_fignums()
    picture.render(records())
    assert matplotlib.get_backend() == backend
    assert pyplot.get_fignums() == figures


def test_report_imports_matplotlib_inside_functions_only():
    """Read from the source, since Keras itself may load matplotlib."""
    files = list(pathlib.Path(picture.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "matplotlib" not in ast.unparse(node), file.name
