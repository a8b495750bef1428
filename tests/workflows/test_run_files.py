# SPDX-License-Identifier: Apache-2.0
"""`verify` looks at every file that a run wrote."""

from __future__ import annotations

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.core.file_lock import LOCK
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint
from keras_kd.export.manifest import golden_path
from keras_kd.export.manifest import manifest_path
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.release import files_of
from keras_kd.export.verification import directory as exported
from keras_kd.export.verification.golden import write_golden
from keras_kd.report import Report
from keras_kd.tuning.trials.study_file import FILE
from keras_kd.workflows.run_files import verify_folder

BEFORE = pathlib.Path(__file__).parents[1] / "saved_before"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    run = tmp_path_factory.mktemp("written") / "run"
    for name in ("1/saved_model.pb", "serving/SERVING.md", "run.tflite"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"content")
    batch = {"x": np.zeros((1, 2))}
    write_golden(run / "1", batch, batch, 0.1, "")
    lite = run / "run.tflite"
    write_golden(lite, batch, batch, 0.1, file_sha256(lite))
    for path in (run / "1", run / "serving", lite):
        write_manifest(path)
    record = StageRecord("student", "student", {"seed": 0}, {"accuracy": 0.5})
    StageFolder(run / "stages").run("student-0", {}, lambda: (model(), record))
    label(run / "stages" / "targets" / "0123456789abcdef")
    Report(run, [record], command="x").save()
    return run


@pytest.fixture
def run(written, tmp_path, monkeypatch):
    """The files of a run; the models in it are none, and are not asked."""
    for check in ("verify", "check_trust"):
        monkeypatch.setattr(exported, check, lambda *_: None)
    return shutil.copytree(written, tmp_path / "run")


def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def label(folder):
    """The answers of a teacher."""
    x = np.zeros((4, 2), "float32")
    kd.TeacherCache(folder).build(model(), (x,), verbose=0)


def chain(folder):
    """What born_again writes."""
    record = StageRecord("student", "student", {"seed": 0}, {"accuracy": 0.5})
    StageFolder(folder).run("generation-0", {}, lambda: (model(), record))


def search(folder):
    """What a search writes, but for its pictures and logs."""
    shutil.copytree(BEFORE / "search", folder)
    content = json.loads((folder / FILE).read_text())["study"]
    (folder / "trials" / "0.weights.h5").write_bytes(b"weights")
    names = ("0.keras", "0.weights.h5")
    content["files"] = {n: file_sha256(folder / "trials" / n) for n in names}
    whole = {"sha256": fingerprint(content), "study": content}
    (folder / FILE).write_text(json.dumps(whole))
    for path in folder.glob("confirm/*.json"):
        StageRecord.load(path).save(path)  # with the checksum of today


def problems(folder):
    return [problem for _, problem in verify_folder(folder) if problem]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
@pytest.mark.parametrize("make", [label, chain, search])
def test_verify_sees_damage_to_every_file_of_a_folder(tmp_path, make, damage):
    make(tmp_path / "folder")
    for folder in (tmp_path / "folder", tmp_path):
        check_damage(folder, damage)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "delete"])
def test_verify_sees_damage_to_every_file(run, damage):
    check_damage(run, damage)


def check_damage(run, damage):
    assert problems(run) == []
    unseen = []
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        content = path.read_bytes()
        # Locks are empty; server settings may be added to a version; a
        # training that confirms is done again where its record is gone.
        again = damage == "delete" and path.parent.name == "confirm"
        if path.name == LOCK or not content or again:
            continue
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        half = content[: len(content) // 2]
        path.write_bytes({"flip": changed, "cut": half}.get(damage, b""))
        if damage == "delete":
            path.unlink()
        try:
            seen = problems(run)
        except FileNotFoundError as error:  # it was the only file
            seen = str(error)
        if not seen:
            unseen.append(str(path.relative_to(run)))
        path.write_bytes(content)
    assert unseen == []


def test_verify_says_that_it_does_not_know_a_folder(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["verify", str(folder)]) == 2
        told = capsys.readouterr().err
        assert "nothing that can be verified" in told and "born_again" in told


def test_verify_takes_no_log_of_a_search_for_a_model(tmp_path, capsys):
    search(tmp_path / "search")
    (tmp_path / "search" / "logs" / "1").mkdir(parents=True)
    assert main(["verify", str(tmp_path / "search")]) == 0
    assert "trials/0.keras" in capsys.readouterr().out


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
