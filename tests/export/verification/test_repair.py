# SPDX-License-Identifier: Apache-2.0
"""keras-kd verify --repair: what a restarting server would fail on goes."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import types

import pytest

from keras_kd.cli import main
from keras_kd.export.publishing.versions import next_version
from keras_kd.export.verification import directory


def test_verify_repair_moves_a_damaged_newest_version_aside(
    copied, capsys, monkeypatch
):
    # The sound version is not asked; the damaged one is known by its manifest.
    monkeypatch.setattr(directory, "verify", lambda *_: 0.0)
    folder = copied.folder / "cnn"
    shutil.rmtree(folder / "serving")
    for file in folder.glob("cnn.tflite*"):
        file.unlink()
    shutil.copytree(folder / "1", folder / "2")
    model = folder / "2" / "saved_model.pb"
    model.write_bytes(model.read_bytes()[:-1])
    before = sorted(p.name for p in (folder / "2").rglob("*"))
    assert main(["verify", str(folder)]) == 1
    assert (folder / "2").is_dir()  # looking changes nothing
    assert main(["verify", "--repair", str(folder)]) == 1
    assert "takes version 1 now" in capsys.readouterr().out
    assert not (folder / "2").exists()
    aside = folder / "damaged-2"
    assert sorted(p.name for p in aside.rglob("*")) == before
    assert next_version(folder) == 3
    assert main(["verify", "--repair", str(folder)]) == 0


def test_verify_repair_leaves_the_only_version_where_it_is(copied, capsys):
    folder = copied.folder / "cnn"
    (folder / "1" / "saved_model.pb").unlink()
    assert main(["verify", "--repair", str(folder)]) == 1
    assert "Moved aside" not in capsys.readouterr().out
    assert (folder / "1").is_dir()
    assert not any(name.startswith("damaged") for name in os.listdir(folder))


def test_verify_repair_looks_into_every_folder(tmp_path, monkeypatch, capsys):
    for model, version in itertools.product("ab", "12"):
        (tmp_path / model / version).mkdir(parents=True)
    broken = tmp_path / "b" / "2"
    monkeypatch.setattr(
        directory,
        "_problem",
        lambda path, trust: "It is damaged." if path == broken else None,
    )
    assert main(["verify", "--repair", str(tmp_path)]) == 1
    assert "takes version 1 now" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path / "b")) == ["1", "damaged-2"]
    assert sorted(os.listdir(tmp_path / "a")) == ["1", "2"]


@pytest.mark.parametrize("at", ["check_manifest", "read_golden", "verify"])
def test_verify_repair_leaves_what_could_not_be_checked(
    tmp_path, monkeypatch, capsys, at
):
    for version in ("1", "2"):
        (tmp_path / "cnn" / version).mkdir(parents=True)

    def fake(name):
        def called(path, *_):
            if (name, path.name) == (at, "2"):
                raise OSError(errno.EIO, "Input/output error")
            return types.SimpleNamespace(inputs={}, expected={}, tolerance=0)

        return called

    for name in ("check_manifest", "read_golden", "verify"):
        monkeypatch.setattr(directory, name, fake(name))
    assert main(["verify", "--repair", str(tmp_path / "cnn")]) == 1
    assert "could not be checked" in capsys.readouterr().out
    assert (tmp_path / "cnn" / "2").is_dir()
