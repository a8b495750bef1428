# SPDX-License-Identifier: Apache-2.0
"""keras-kd search: a recipe's temperature and alpha from the command line."""

from __future__ import annotations

import pytest

from cli.tiny_recipe import RECIPE
from keras_kd.cli import main

QUICK = RECIPE.replace("teacher_epochs=3", "teacher_epochs=1")


@pytest.mark.usefixtures("eager")
def test_search_command_searches_and_goes_on(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text(QUICK)
    directory = tmp_path / "out"
    call = ["search", str(recipe), "--directory", str(directory)]
    call += ["--confirm", "0", "--epochs", "1"]
    assert main([*call, "--trials", "2"]) == 0
    output = capsys.readouterr().out
    assert "Best: trial 0" in output and "search.html" in output
    assert (directory / "search" / "search.png").is_file()
    assert (directory / "stages" / "trained-teacher.keras").is_file()
    assert main([*call, "--trials", "3"]) == 0
    output = capsys.readouterr().out
    assert "2 had ended before" in output
    assert "trained-teacher: done before" in output


@pytest.mark.usefixtures("eager")
def test_search_command_says_what_is_wrong(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text(QUICK)
    call = ["search", str(recipe), "--directory", str(tmp_path / "out")]
    assert main([*call, "--objective", "loss"]) == 2
    assert "must be measured on the validation split" in capsys.readouterr().err


@pytest.mark.slow
def test_search_command_tells_of_failed_trials(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    broken = "def build_student():\n    return build(4)"
    assert broken in RECIPE
    recipe.write_text(
        RECIPE.replace(
            broken,
            "def build_student(hp=None):\n"
            "    if hp is not None and hp.values.get('temperature', 4) != 4:\n"
            "        raise RuntimeError('no such student')\n"
            "    return build(4)",
        )
    )
    call = ["search", str(recipe), "--directory", str(tmp_path / "out")]
    assert main([*call, "--trials", "5", "--epochs", "2"]) == 2
    error = capsys.readouterr().err
    assert "3 trials in a row failed" in error and "no such student" in error
