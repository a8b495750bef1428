# SPDX-License-Identifier: Apache-2.0
"""Every stage that writes, under every fault: nothing lost, nothing silent."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import keras_kd
from faults import harness

TESTS = pathlib.Path(__file__).parents[1]


def run(*arguments):
    """Runs the harness, in a process in which TensorFlow has done nothing."""
    root = pathlib.Path(keras_kd.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-m", "faults.harness", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": f"{root}{os.pathsep}{TESTS}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    print(process.stdout)
    return process


def test_stage_under_each_fault_once(capsys):
    # It computes nothing, so this process may fork.
    status = harness.main(["released", "--most", "1"])
    table = capsys.readouterr().out
    assert status == 0, table
    assert table.count("| released |") == len(harness.FAULTS)


@pytest.mark.faults
def test_every_stage_under_every_fault():
    process = run("--seconds", 45)
    assert process.returncode == 0, process.stdout + process.stderr[-2000:]


def careless(folder):
    """One that writes in place, and reads what it finds."""
    path = folder / "file"
    if not path.exists():
        with open(path, "w") as file:
            file.write("a")
            file.flush()
            (folder / "other").mkdir()
            file.write("b")
    return path.read_text()


def test_harness_sees_a_half_written_file_that_is_believed(tmp_path):
    harness.fresh(tmp_path)
    whole = {"result": "ab", "operations": 2}
    tried = harness.Trial(careless, tmp_path, whole)
    assert tried.once(last=2) == {}  # between the two
    assert tried.verdict(tried.once())[0] == harness.SILENT


def test_harness_sees_what_no_longer_runs(tmp_path):
    harness.fresh(tmp_path)
    tried = harness.Trial(failing, tmp_path, {"result": 1, "operations": 0})
    assert tried.verdict(tried.once()) == (harness.LOST, "it is damaged")


def failing(folder):
    raise ValueError("it is damaged")
