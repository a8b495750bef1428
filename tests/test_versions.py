# SPDX-License-Identifier: Apache-2.0
"""The oldest versions that setup.cfg allows, and the newest there are."""

from __future__ import annotations

import configparser
import os
import pathlib
import re
import subprocess
import sys

import pytest

from cli.tiny_recipe import RECIPE

ROOT = pathlib.Path(__file__).parents[1]
# Rooms whose tests train little and touch most of what is required.
SLICE = ["core", "losses", "tuning/space", "pruning", "export/formats"]


def required() -> list[str]:
    """Returns what setup.cfg requires, such as `keras>=3.15`."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = config["options"]["install_requires"]
    return (needed + config["options.extras_require"]["int4"]).split()


def wanted(which: str) -> list[str]:
    if which == "newest":
        return required()
    return [re.sub(">=", "==", one) for one in required()]


def test_every_requirement_has_a_floor_that_can_be_tried():
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", one) for one in required())


@pytest.mark.slow
@pytest.mark.parametrize("which", ["floors", "newest"])
def test_a_recipe_runs_and_a_slice_of_the_tests_passes(which, tmp_path):
    """Takes minutes, most of them for pip."""
    subprocess.run(
        [sys.executable, "-m", "venv", tmp_path / "venv"], check=True
    )
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    subprocess.run([*pip, *wanted(which), "pytest", "hypothesis"], check=True)
    (tmp_path / "mine.py").write_text(RECIPE, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*arguments):
        command = [python, "-m", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]

    run("keras_kd.cli", "run", "mine.py")
    run("keras_kd.cli", "verify", "saved_models/mine")
    places = [ROOT / "tests" / room for room in SLICE]
    run("pytest", "-q", "-c", ROOT / "setup.cfg", *places)
