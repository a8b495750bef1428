# SPDX-License-Identifier: Apache-2.0
"""`verify` looks at every file that a run wrote."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.core.file_lock import LOCK
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.stage_cache import StageFolder
from keras_kd.export.manifest import golden_path
from keras_kd.export.manifest import manifest_path
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.release import files_of
from keras_kd.export.verification import directory as exported
from keras_kd.export.verification.golden import write_golden
from keras_kd.report import Report
from keras_kd.workflows.run_files import verify_stages


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The files of a run; the models in it are none, and are not asked."""
    for check in ("verify", "check_trust"):
        monkeypatch.setattr(exported, check, lambda *_: None)
    run = tmp_path / "run"
    for name in ("1/saved_model.pb", "serving/SERVING.md", "run.tflite"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"content")
    batch = {"x": np.zeros((1, 2))}
    write_golden(run / "1", batch, batch, 0.1, "")
    lite = run / "run.tflite"
    write_golden(lite, batch, batch, 0.1, file_sha256(lite))
    for path in (run / "1", run / "serving", lite):
        write_manifest(path)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    record = StageRecord("student", "student", {"seed": 0}, {"accuracy": 0.5})
    StageFolder(run / "stages").run("student-0", {}, lambda: (model, record))
    cache = kd.TeacherCache(run / "stages" / "targets" / "0123456789abcdef")
    cache.build(model, (np.zeros((4, 2), "float32"),), verbose=0)
    Report(run, [record], command="x").save()
    return run


def problems(run):
    found = [*exported.verify_directory(run), *verify_stages(run)]
    return [problem for _, problem in found if problem]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
def test_verify_sees_damage_to_every_file(run, damage):
    assert problems(run) == []
    unseen = []
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        content = path.read_bytes()
        # Locks are empty; server settings may be added to a version.
        if path.name == LOCK or not content:
            continue
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        half = content[: len(content) // 2]
        path.write_bytes({"flip": changed, "cut": half}.get(damage, b""))
        if damage == "delete":
            path.unlink()
        if not problems(run):
            unseen.append(str(path.relative_to(run)))
        path.write_bytes(content)
    assert unseen == []


def test_verify_fails_when_a_tflite_file_is_gone(run, capsys):
    (run / "run.tflite").unlink()
    assert main(["verify", str(run)]) == 1
    assert "run.tflite is missing" in capsys.readouterr().out


def test_run_knows_what_lies_beside_its_models(run):
    lite = run / "run.tflite"
    found = files_of({"saved_model": run / "1", None: lite})
    assert {golden_path(lite), manifest_path(lite)} <= set(found)
    assert run / "serving" / "SERVING.md" in found
    assert all(path.is_file() for path in found)
