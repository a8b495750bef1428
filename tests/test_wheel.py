# SPDX-License-Identifier: Apache-2.0
"""A wheel built from the checkout works where there is no checkout."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from cli.tiny_recipe import RECIPE

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed wheel; what it needs is there already."""
    source = tmp_path_factory.mktemp("source")  # a build leaves files
    shutil.copytree(ROOT / "keras_kd", source / "keras_kd")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", str(source)]
    subprocess.run([*pip, *build], cwd=source, check=True)
    (wheel,) = source.glob("keras_kd-*.whl")
    target = tmp_path_factory.mktemp("installed")
    install = ["install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True)
    return target


@pytest.mark.slow
def test_wheel_runs_and_verifies_a_recipe(installed, tmp_path):
    (tmp_path / "mine.py").write_text(RECIPE, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def python(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = python("-c", "import keras_kd; print(keras_kd.__file__)")
    assert pathlib.Path(where.strip()).is_relative_to(installed)
    assert (installed / "keras_kd" / "py.typed").is_file()
    assert "digits" in python("-m", "keras_kd.cli", "recipes")
    python("-m", "keras_kd.cli", "run", "mine.py")
    assert "ok" in python("-m", "keras_kd.cli", "verify", "saved_models/mine")
