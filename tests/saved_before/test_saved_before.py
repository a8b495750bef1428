# SPDX-License-Identifier: Apache-2.0
"""What was saved before the modules moved still loads, and is the same.

`made_by.py` tells what the files hold and how they were made.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.core.records import StageRecord
from keras_kd.evaluation.evaluator import Evaluator
from saved_before import made_by

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def answers():
    with np.load(HERE / "answers.npz") as file:
        return dict(file)


@pytest.fixture
def copied(tmp_path):
    """Returns a copy of a folder, since reading may also repair."""

    def copy(name):
        shutil.copytree(HERE / name, tmp_path / name)
        return tmp_path / name

    return copy


@pytest.mark.parametrize("name", ["distiller", "mutual"])
@pytest.mark.usefixtures("eager")
def test_saved_distillers_load_answer_and_train_on(name, answers):
    kind = {"distiller": kd.Distiller, "mutual": kd.MutualDistiller}[name]
    model = keras.saving.load_model(HERE / f"{name}.keras")
    assert type(model) is kind
    x, y = made_by.split(96)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), answers[name], atol=1e-6
    )
    assert model.optimizer.iterations == 3
    if name == "distiller":
        assert set(model.projectors) == {"feature_matching"}
        model.teacher = made_by.build_teacher()
    model.fit(x, y, batch_size=32, verbose=0)
    assert model.optimizer.iterations == 6


def test_saved_exits_leave_as_early_as_before(answers):
    model = keras.saving.load_model(HERE / "exits.keras")
    quick = kd.EarlyExit(model, ["early", "last"], threshold=0.5)
    logits, answered_by = quick.predict(made_by.features(96))
    np.testing.assert_allclose(logits, answers["exits"], atol=1e-6)
    np.testing.assert_array_equal(answered_by, answers["answered_by"])


@pytest.mark.parametrize("name", ["dense", "sparse"])
@pytest.mark.usefixtures("eager")
def test_saved_targets_are_whole_and_not_made_again(copied, name, capsys):
    folder = copied("targets") / name
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.npy")}
    cache = kd.TeacherCache.open(folder)
    assert [problem for _, problem in cache.verify() if problem] == []
    x, y = made_by.split(96)
    # The same teacher: nothing is labelled a second time.
    cache.build(made_by.build_teacher(), (x, y))
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.npy")} == before
    targets = cache.read(range(96))["output"]
    logits = made_by.build_teacher().predict(x, verbose=0)
    if name == "dense":
        np.testing.assert_allclose(targets["values"], logits, rtol=2e-3)
    else:
        order = np.argsort(-logits, axis=1)[:, :2]
        np.testing.assert_array_equal(targets["ids"], order)
    train = cache.attach((x, y), batch_size=32)
    distiller = kd.Distiller(None, made_by.build_student())
    distiller.compile("sgd", made_by.cross_entropy(), run_eagerly=True)
    distiller.fit(train, verbose=0)


def test_finished_run_is_read_verified_and_not_done_again(
    copied, capsys, monkeypatch
):
    # What is measured anew is not what this is about: a process of its own.
    monkeypatch.setattr(
        Evaluator,
        "latencies",
        lambda _, models, files: dict.fromkeys([*models, *files], {}),
    )
    # No run had a pruned control then: any model will do for it.
    monkeypatch.setattr(
        "keras_kd.workflows.stages.prune",
        lambda model, *_, **__: (model, StageRecord("prune", "pruned")),
    )
    folder = copied("run")
    report = kd.Report.load(folder)
    assert [record.name for record in report.records][0] == "teacher"
    # A figure that is no longer measured is kept, but not shown.
    assert report.records[0].metrics["flops"] == 243
    report.save()
    page = (folder / "report.html").read_text("utf-8")
    assert "<table" in page and "flops" not in page.lower()
    assert main(["verify", str(folder)]) == 0
    assert "FAILED" not in capsys.readouterr().out
    # It was drawn above, and is of the same rows.
    monkeypatch.setattr("keras_kd.report.picture.render", lambda *_: b"png")
    again = kd.compress(
        made_by.build_teacher(),
        made_by.build_student,
        made_by.data(),
        folder,
        dry_run=False,
        temperature=4.0,  # the default of that day
        **made_by.RUN,
    )
    out = capsys.readouterr().out
    stages = ("teacher", "control-0", "student-0", "pruned", "export")
    for stage in (*stages, "teacher-tflite"):
        assert f"{stage}: done before" in out
    found, before = (
        {r.name: r.metrics.get("accuracy") for r in made.records}
        for made in (again, report)
    )
    del found["pruned control"]  # which no run had then
    assert found == before


@pytest.mark.usefixtures("eager")
def test_finished_search_is_read_and_not_done_again(copied, capsys):
    folder = copied("search")
    rows = json.loads((folder / "study.json").read_text())["study"]["rows"]
    found = kd.search(
        made_by.build_teacher(),
        made_by.build_student,
        made_by.data(),
        directory=folder,
        # A confirmation depends on today's code, too: it would be trained anew.
        **{**made_by.SEARCH, "confirm": 0},
    )
    assert [dataclasses.asdict(row) for row in found.rows] == rows
    assert found.best_settings["temperature"] == 4.0
    x, _ = made_by.split(32, 1)
    assert found.best_model.predict(x, verbose=0).shape == (32, 3)
    assert "4 had ended before" in capsys.readouterr().out
