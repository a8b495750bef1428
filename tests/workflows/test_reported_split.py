# SPDX-License-Identifier: Apache-2.0
"""A report says which split its accuracies are of, wherever it is read."""

from __future__ import annotations

import html
import json
import re

import pytest

import keras_kd as kd
from keras_kd.cli import main
from saved_before import made_by
from selection import quick

GIVEN = {"validation": None, "test": made_by.split(32, 2)}
PHRASES = {
    "test": "the test split",
    "validation": "validation (no test split was given)",
}


@pytest.fixture(scope="module", params=quick(0, GIVEN))
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / request.param
    data = kd.Data(
        made_by.split(96), made_by.split(32, 1), GIVEN[request.param]
    )
    options = {**made_by.RUN, "seeds": (0, 1), "verbose": 0, "dry_run": False}
    report = kd.compress(
        made_by.build_teacher(), made_by.build_student, data, folder, **options
    )
    return request.param, folder, report


def told(text):
    """Returns the words of a page or text, without tags and line breaks."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", text)).split())


def test_every_form_of_the_report_names_the_split(run, capsys):
    split, folder, report = run
    (other,) = set(PHRASES) - {split}
    assert main(["report", str(folder)]) == 0
    read = {
        kind: (folder / f"report.{kind}").read_text("utf-8")
        for kind in ("md", "html")
    }
    for text in (repr(report), capsys.readouterr().out, *read.values()):
        text = told(text)
        assert f"over 2 paired seeds on {PHRASES[split]}:" in text
        assert f"Scores: measured on {PHRASES[split]}." in text
        assert PHRASES[other] not in text
    page = told(read["html"])
    assert f"of 32 {split} examples differently" in page
    assert f"{other} examples" not in page
    assert f'alt="{split.capitalize()} accuracy' in read["html"]


def test_the_split_is_kept_in_the_report(run):
    split, folder, report = run
    content = json.loads((folder / "report.json").read_text())
    assert content["split"] == content["gain"]["split"] == split
    assert kd.Report.load(folder).split == report.split == split


def test_a_report_of_before_the_split_was_kept_still_loads(run):
    _, folder, report = run
    path = folder / "report.json"
    content = json.loads(path.read_text())
    del content["split"], content["seal"]
    (folder / "old").mkdir(exist_ok=True)
    (folder / "old" / "report.json").write_text(json.dumps(content))
    assert kd.Report.load(folder / "old").records == report.records


@pytest.mark.slow
def test_a_search_does_not_call_the_validation_split_a_test(tmp_path):
    found = kd.search(
        made_by.build_teacher(),
        made_by.build_student,
        kd.Data(made_by.split(96), made_by.split(32, 1)),
        trials=2,
        directory=tmp_path,
        epochs=1,
        confirm=1,
        verbose=0,
    )
    text = str(found.confirmed)
    assert "on the validation split" in text and "may flatter" in text
    assert "test split" not in text
