# SPDX-License-Identifier: Apache-2.0
"""keep=n: what goes, what stays, and two publishers in two processes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import keras_kd
from keras_kd.core.leases import STAGED
from keras_kd.export import check_manifest
from keras_kd.export import publish
from keras_kd.export import retire_versions
from keras_kd.export.manifest import write_content


def source(folder, content="model"):
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    return folder


@pytest.fixture
def base(tmp_path):
    """Five sound versions, 1 to 5."""
    for number in range(1, 6):
        folder = source(tmp_path / f"source{number}", f"model {number}")
        publish(folder, tmp_path / "models")
    return tmp_path / "models"


def numbers(base):
    return sorted(name for name in os.listdir(base) if name.isdigit())


def damage(version):
    (version / "saved_model.pb").write_text("other")


@pytest.mark.parametrize("keep, left", [(1, "5"), (2, "45"), (9, "12345")])
def test_retire_versions_keeps_the_newest(base, keep, left):
    removed = retire_versions(base, keep)
    assert sorted(os.listdir(base)) == list(left)
    assert sorted(p.name for p in removed) == sorted(set("12345") - set(left))
    for name in left:
        check_manifest(base / name)


def test_retire_versions_never_removes_the_newest_sound_one(base):
    for number in ("5", "4", "3"):
        damage(base / number)
    retire_versions(base, keep=1)
    # 2 is the newest that serves; what is newer is not older than it.
    assert numbers(base) == ["2", "3", "4", "5"]
    damage(base / "2")
    retire_versions(base, keep=1)
    assert numbers(base) == ["2", "3", "4", "5"]


def test_retire_versions_leaves_what_it_does_not_know(base, tmp_path):
    strange = ["0008", "+7", "-3", "v1", "10.tmp", "student.tflite.d", "0"]
    for name in strange:
        shutil.copytree(base / "1", base / name)
    (base / "2" / "manifest.json").unlink()
    write_content(base / "3", {"notes.txt": "0"})
    (base / "1").rename(tmp_path / "elsewhere")
    (base / "1").symlink_to(tmp_path / "elsewhere")
    (base / "notes").write_text("a file")
    before = sorted(os.listdir(base))
    assert retire_versions(base, keep=1) == [base / "4"]
    assert sorted(os.listdir(base)) == [n for n in before if n != "4"]
    assert (tmp_path / "elsewhere" / "saved_model.pb").exists()


def test_publish_keeps_what_it_is_told(base, tmp_path):
    version = publish(source(tmp_path / "new"), base, keep=2)
    assert version.name == "6"
    assert sorted(os.listdir(base)) == ["5", "6"]
    # A number that was removed is not given again.
    assert publish(source(tmp_path / "next"), base, keep=1).name == "7"
    assert sorted(os.listdir(base)) == ["7"]


def test_publish_spares_its_own_version_when_another_is_newer(
    base, tmp_path, monkeypatch
):
    import importlib

    module = importlib.import_module("keras_kd.export.publishing.versions")
    # Version 9 appears between our rename and our removal of old ones.
    real = module.retire_versions

    def beaten(folder, keep, spare):
        shutil.copytree(base / "5", base / "9")
        return real(folder, keep, spare)

    monkeypatch.setattr(module, "retire_versions", beaten)
    assert publish(source(tmp_path / "new"), base, keep=1).name == "6"
    assert numbers(base) == ["6", "9"]


@pytest.mark.parametrize("keep", [0, -1, 1.0, True, "2"])
def test_publish_refuses_keep_before_anything_happens(base, tmp_path, keep):
    with pytest.raises(ValueError, match="`keep` must be how many versions"):
        publish(source(tmp_path / "new"), base, keep)
    assert numbers(base) == list("12345")


def test_retire_versions_killed_leaves_no_half_version(base, monkeypatch):
    def killed(folder, **_):
        (pathlib.Path(folder) / "saved_model.pb").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        retire_versions(base, keep=2)
    for name in os.listdir(base):
        if not name.startswith(STAGED):
            check_manifest(base / name)
    assert numbers(base) == ["1", "2", "4", "5"]


PUBLISHER = """
import json, os, pathlib, sys, time
from keras_kd.export import publish
base, source, mark = map(pathlib.Path, sys.argv[1:4])
(mark.parent / (mark.name + str(os.getpid()))).touch()
while len(list(mark.parent.glob(mark.name + "*"))) < 2:
    time.sleep(0.001)
print(json.dumps([publish(source, base, keep=int(sys.argv[4])).name
                  for _ in range(25)]))
"""


@pytest.mark.slow
def test_two_processes_publish_at_once_and_win_each_number_once(tmp_path):
    root = str(pathlib.Path(keras_kd.__file__).parents[1])
    base, mark = tmp_path / "models", tmp_path / "ready-"
    processes = []
    for who in ("a", "b"):
        folder = source(tmp_path / who, who)
        command = [sys.executable, "-c", PUBLISHER, base, folder, mark, "40"]
        processes.append(
            subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, "PYTHONPATH": root},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    won = {}
    for who, process in zip("ab", processes, strict=True):
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        won[who] = json.loads(output)
    assert sorted(map(int, won["a"] + won["b"])) == list(range(1, 51))
    # Both removed old versions all along: no fewer than 40 are left.
    left = os.listdir(base)
    assert sorted(map(int, left)) == list(range(11, 51))
    for who, names in won.items():
        for name in set(names) & set(left):
            check_manifest(base / name)
            assert (base / name / "saved_model.pb").read_text() == who
