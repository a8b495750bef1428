# SPDX-License-Identifier: Apache-2.0
"""keras-kd labels: build, info, verify and merge."""

from __future__ import annotations

import pytest

import keras_kd as kd
from cli.tiny_recipe import RECIPE
from keras_kd.cli import main
from targets.labelled import contents


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe whose teacher was trained, as `keras-kd run` leaves it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    stages = tmp_path / "saved_models" / "mine" / "stages"
    stages.mkdir(parents=True)
    model = kd.recipes.load(path).build_teacher()
    model.save(stages / "trained-teacher.keras")
    return str(path)


def test_targets_build_info_and_verify(recipe, tmp_path, capsys):
    assert main(["targets", "build", recipe, "--set", "dtype=float32"]) == 0
    directory = tmp_path / "saved_models" / "mine" / "targets"
    assert "32 samples" in capsys.readouterr().out
    assert main(["targets", "info", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "float32" in out
    assert "'engine': 'keras'" in out
    assert main(["targets", "verify", str(directory)]) == 0
    path = directory / "shards" / "00000" / "fingerprint.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["targets", "verify", str(directory)]) == 1
    out = capsys.readouterr().out
    assert "FAILED shards/00000/fingerprint.npy" in out
    # Labelling again heals it.
    assert main(["targets", "build", recipe, "--set", "dtype=float32"]) == 0
    assert path.read_bytes() == content


def test_targets_build_takes_the_recipes_finished_teacher(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    source = RECIPE.replace("def build_teacher", "def load_teacher")
    (tmp_path / "mine.py").write_text(source)
    assert main(["targets", "build", "mine.py"]) == 0
    assert "32 samples" in capsys.readouterr().out


def test_targets_merge_makes_one_of_parts(recipe, tmp_path, capsys):
    build = ["targets", "build", recipe, "--set", "shard_size=8"]
    assert main([*build, "--directory", "whole"]) == 0
    for index in range(2):
        part = ["--part", f"{index}/2", "--directory", f"part-{index}"]
        assert main([*build, *part]) == 0
    parts = ["part-1", "part-0"]
    assert main(["targets", "merge", *parts, "--into", "merged"]) == 0
    assert "32 samples in merged" in capsys.readouterr().out
    assert contents("merged") == contents("whole")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (["build", "digits", "--teacher", "no.keras"], "keras-kd run digits"),
        (["build", "digits", "--set", "topk=4"], "Did you mean 'top_k'"),
        (["build", "digits", "--data", "labeled=4"], "mean 'labelled'"),
        (["info", "nowhere"], "no teacher cache"),
        (["verify", "nowhere"], "no teacher cache"),
        (["merge", "nowhere", "--into", "merged"], "finished part"),
    ],
)
def test_bad_call_is_answered_in_words(call, text, capsys):
    assert main(["targets", *call]) == 2
    assert text in capsys.readouterr().err


def test_bad_part_is_answered_in_words(recipe, capsys):
    assert main(["targets", "build", recipe, "--part", "1-3"]) == 2
    assert "--part takes I/N" in capsys.readouterr().err
    assert main(["targets", "build", recipe, "--part", "3/3"]) == 2
    assert "from 0 to n - 1" in capsys.readouterr().err


def test_old_name_works_and_says_so(recipe, capsys):
    assert main(["labels", "build", recipe]) == 0
    found = capsys.readouterr()
    assert "32 samples" in found.out
    assert "keras-kd labels is called targets now" in found.err
