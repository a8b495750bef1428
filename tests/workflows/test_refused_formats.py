# SPDX-License-Identifier: Apache-2.0
"""A format that does not convert is a row of the report, not its end."""

from __future__ import annotations

import os
import types

import numpy as np
import pytest

from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.stage_cache import StageFolder
from keras_kd.workflows import export_stages

OPTIONS = {
    "formats": ["saved_model", "tflite"],
    "quantize": [None, "int8"],
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """What `exported` needs of a run whose model is a file."""
    (tmp_path / "stages").mkdir()
    folder = StageFolder(tmp_path / "stages")
    monkeypatch.setattr(folder, "model", lambda record: None)
    return types.SimpleNamespace(
        directory=tmp_path,
        folder=folder,
        files=types.SimpleNamespace(train=(np.zeros((2, 1)), np.zeros(2))),
        verbose=0,
        task=None,
    )


STUDENT = StageRecord("student", "s", artefacts={"s.keras": "0"})


def exporting(refusing, error):
    def export(model, directory, *, formats, quantize, **_):
        made = (
            {"saved_model": {"version": 1}} if "saved_model" in formats else {}
        )
        if "tflite" in formats:
            made |= {f"tflite.{q or 'float32'}": {"bytes": 1} for q in quantize}
        if not refusing.isdisjoint(made):
            raise error
        return StageRecord("export", "it", metrics=made)

    return export


def test_other_formats_are_written(run, monkeypatch):
    refuse = exporting({"tflite.int8"}, RuntimeError("no int8 of a GRU"))
    monkeypatch.setattr(export_stages, "export", refuse)
    found = export_stages.exported(run, STUDENT, OPTIONS)
    assert list(found.metrics) == ["tflite.float32", "saved_model"]
    rows, notes = export_stages.refusals(found, "it")
    assert [row.name for row in rows] == [".int8.tflite (refused)"]
    assert notes == ["The .int8.tflite is refused: no int8 of a GRU"]
    # Kept with the stage.
    monkeypatch.setattr(export_stages, "export", None)
    again = export_stages.exported(run, STUDENT, OPTIONS)
    assert again.settings["refused"] == {"tflite.int8": "no int8 of a GRU"}


def test_nothing_written_is_an_error(run, monkeypatch):
    kinds = {"saved_model", "tflite.int8", "tflite.float32"}
    monkeypatch.setattr(
        export_stages, "export", exporting(kinds, ValueError("no model"))
    )
    with pytest.raises(ValueError, match="no model"):
        export_stages.exported(run, STUDENT, OPTIONS)


def test_files_of_a_control_that_is_no_longer_better_go(run):
    """Only those that the earlier run wrote, and as it wrote them."""
    control, version = run.directory / "control", run.directory / "control/1"
    version.mkdir(parents=True)
    ours = [control / "control.tflite", version / "saved_model.pb"]
    changed, theirs = control / "notes.json", control / "mine.txt"
    for file in (*ours, changed, theirs):
        file.write_text(file.name)
    outside = run.directory / "report.json"
    outside.write_text("outside")
    record = StageRecord("export", "control")
    for file in (*ours, changed, outside):
        path = os.path.relpath(file, run.folder.directory)
        record.artefacts[path] = file_sha256(file)
    changed.write_text("by somebody")
    record.save(run.folder.directory / "export-control.json")
    run.say = lambda line: None
    export_stages.withdrawn(run, "control")
    export_stages.withdrawn(run, "control")  # nothing is left to do
    assert sorted(control.rglob("*")) == [theirs, changed]
    assert outside.exists()
    assert not any(run.folder.directory.iterdir())


def test_a_full_disk_is_no_refusal(run, monkeypatch):
    full = RuntimeError("...: No space left on device")
    monkeypatch.setattr(
        export_stages, "export", exporting({"tflite.int8"}, full)
    )
    with pytest.raises(RuntimeError, match="No space left"):
        export_stages.exported(run, STUDENT, OPTIONS)
