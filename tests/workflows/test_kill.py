# SPDX-License-Identifier: Apache-2.0
"""A run that is killed, again and again, ends as one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from cli.tiny_recipe import RECIPE

FIGURES = ("accuracy", "agreement", "nonzero_parameters", "accuracies")


def start(recipe, directory):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "keras_kd.cli", "run", str(recipe)),
            *("--directory", str(directory)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def figures(directory):
    report = json.loads((directory / "report.json").read_text())
    return [
        [record["name"], *(record["metrics"].get(key) for key in FIGURES)]
        for record in report["records"]
    ]


def pruned_weights(directory):
    model = keras.saving.load_model(directory / "stages" / "pruned.keras")
    return model.get_weights()


@pytest.mark.slow
def test_killed_run_ends_as_an_uninterrupted_one(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)
    began = time.monotonic()
    assert start(recipe, tmp_path / "whole").wait() == 0
    duration = time.monotonic() - began
    killed = 0
    # Later and later, so that every stage is hit; starting alone takes long.
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        process = start(recipe, tmp_path / "killed")
        try:
            process.wait(timeout=share * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= 2
    assert start(recipe, tmp_path / "killed").wait() == 0
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    # A few examples may hide that the weights are others.
    for one, other in zip(
        *(pruned_weights(tmp_path / run) for run in ("killed", "whole")),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    # Nothing half-written under a final name, one published version.
    versions = [p for p in (tmp_path / "killed").iterdir() if p.name.isdigit()]
    assert [version.name for version in versions] == ["1"]
    assert not list((tmp_path / "killed" / "stages").glob(".tmp-*.json"))
