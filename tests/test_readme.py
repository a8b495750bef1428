# SPDX-License-Identifier: Apache-2.0
"""What the README shows runs, and what it lists is there."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_kd as kd

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.docs
def test_readme_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype("float32")
    y = x[:, :3].argmax(axis=1)

    def build_student():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

    names = {
        "teacher": build_student(),
        "build_student": build_student,
        "x_train": x[:64],
        "y_train": y[:64],
        "x_val": x[64:],
        "y_val": y[64:],
    }
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "student.keras").is_file()
    assert (tmp_path / "saved_models/my_student/1/saved_model.pb").is_file()
    assert (tmp_path / "saved_models/my_student/my_student.tflite").is_file()
    assert "teacher" in capsys.readouterr().out


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_readme_names_public_things_only():
    for name in set(re.findall(r"\bkd\.(\w+)", README)):
        assert hasattr(kd, name), name


def test_readme_tables_are_those_of_the_kept_results():
    path = ROOT / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("results", path)
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    reports = results.RESULTS.glob("*/report.json")
    kept = {path.parent.name for path in reports}
    assert kept == set(results.COMMANDS)
    for name in kept:
        assert f"<!-- results: {name} -->" in README
    # `benchmarks/results.py --render` repairs it.
    assert results.render(README) == README
