# SPDX-License-Identifier: Apache-2.0
"""What the README shows runs, and what it lists is there."""

from __future__ import annotations

import configparser
import re

import pytest

import keras_kd as kd
import pages

ROOT = pages.ROOT
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.docs
def test_readme_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pages.run(README, "README.md")
    assert (tmp_path / "student.keras").is_file()
    assert (tmp_path / "saved_models/my_student/1/saved_model.pb").is_file()
    assert (tmp_path / "saved_models/my_student/my_student.tflite").is_file()
    assert "teacher" in capsys.readouterr().out


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_readme_names_all_extras_for_users():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"]) - {"dev"}
    told = README[README.index("Extras: ") : README.index("`pip install -c")]
    assert extras == set(re.findall(r"`(\w+)`", told))


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_readme_names_public_things_only():
    for name in set(re.findall(r"\bkd\.(\w+)", README)):
        assert hasattr(kd, name), name
