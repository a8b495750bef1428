# SPDX-License-Identifier: Apache-2.0
"""Searches in several processes, and processes that are killed."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from keras_kd.tuning.trials.worker_pool import WorkerPool

from cli.tiny_recipe import RECIPE
from keras_kd import recipes
from keras_kd.tuning.trials.study import FILE
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.workflows.recipe_runs import search_recipe
from tuning.toy import DATA
from tuning.toy import quickly

TRIALS = 6
SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from tuning.toy import quickly
if __name__ == "__main__":
    quickly(sys.argv[1], trials={trials}, confirm=0, epochs=6, **{options})
"""


def start(directory, **options):
    tests = str(pathlib.Path(__file__).parents[2])
    code = SCRIPT.format(tests=tests, trials=TRIALS, options=options)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def rows_of(directory):
    content = json.loads((directory / FILE).read_text())
    return content["study"]["rows"]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def workers_of(process):
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"keras_kd.tuning.trials.worker" in words:
            place = words.index(b"--parent") + 1
            if int(words[place]) == process.pid:
                found.append(int(folder.name))
    return found


def begun(directory, count=2):
    def condition():
        try:
            return len(rows_of(directory)) >= count
        except FileNotFoundError:
            return False

    return condition


def check_whole(directory, expected_count=TRIALS):
    rows = rows_of(directory)
    assert len(rows) == expected_count
    assert {row["status"] for row in rows} <= {COMPLETED, STOPPED}
    assert len({row["name"] for row in rows}) == expected_count
    study = Study(directory)
    assert study.take() is None
    oracle = study._read().oracle
    assert sorted(oracle.end_order) == sorted(r["name"] for r in rows[1:])


def test_workers_leave_the_job_that_is_there(tmp_path, monkeypatch):
    """It may be that of a running search; whose folder it is shows later."""
    monkeypatch.setattr(
        WorkerPool, "_start", lambda self: subprocess.Popen(["true"])
    )
    job = tmp_path / "job.pkl"
    job.write_bytes(b"of another search")
    with WorkerPool(tmp_path, 1):
        pass
    assert job.read_bytes() == b"of another search"


def test_search_with_two_workers(tmp_path):
    # What a killed search left is not what its workers wait for.
    (tmp_path / "job.pkl").write_bytes(b"of another search")
    result = quickly(tmp_path, trials=4, confirm=0, workers=2)
    check_whole(tmp_path, 4)
    assert result.best_model.predict(DATA.test[0], verbose=0).shape == (64, 3)
    assert not (tmp_path / "job.pkl").exists()
    alone = quickly(tmp_path / "alone", trials=4, confirm=0)
    # Proposals may differ, since they depend on what had ended; the control
    # and the defaults do not.
    same = {row.name: row.objective for row in alone.rows}
    found = {row.name: row.objective for row in result.rows}
    for name in (CONTROL, "0"):
        assert found[name] == pytest.approx(same[name], abs=1 / 64)


@pytest.mark.slow
def test_search_with_workers_takes_a_recipe_of_ones_own(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(RECIPE)
    result = search_recipe(
        recipes.load(recipe), tmp_path / "out", trials=3, confirm=0, workers=2
    )
    assert len(result.rows) == 3
    assert (tmp_path / "out" / "search" / "search.html").is_file()


def test_search_with_workers_refuses_data_of_this_process(tmp_path):
    x, y = DATA.train
    stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    data = type(DATA)(stream, DATA.validation)
    with pytest.raises(ValueError, match="Pass workers=1"):
        quickly(tmp_path, data=data, workers=2)


def test_search_with_workers_tells_what_went_wrong_there(tmp_path):
    def broken(hp):
        if os.environ.get("OMP_NUM_THREADS"):  # in a worker only
            raise RuntimeError("no such width")
        from tuning.toy import build_student

        return build_student()

    with pytest.raises(RuntimeError, match="no such width"):
        quickly(tmp_path, build=broken, workers=2, confirm=0)


@pytest.mark.slow
def test_search_survives_the_death_of_workers(tmp_path):
    process = start(tmp_path, workers=2)
    killed = 0
    for count in (1, 3, 4):
        wait_for(begun(tmp_path, count))
        wait_for(lambda: workers_of(process) or process.poll() is not None)
        victims = workers_of(process)
        if victims and process.poll() is None:
            os.kill(random.Random(count).choice(victims), signal.SIGKILL)
            killed += 1
    assert killed >= 2
    finish(process)
    check_whole(tmp_path)


@pytest.mark.slow
def test_workers_end_with_the_search_that_started_them(tmp_path):
    process = start(tmp_path, workers=2)
    wait_for(begun(tmp_path))
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_for(lambda: not workers_of(process), seconds=60)
    finish(start(tmp_path, workers=2))
    check_whole(tmp_path)


@pytest.mark.slow
def test_search_killed_at_random_ends_as_an_uninterrupted_one(tmp_path):
    began = time.monotonic()
    finish(start(tmp_path / "whole"))
    duration = time.monotonic() - began
    whole = rows_of(tmp_path / "whole")
    choose, killed, ended = random.Random(0), 0, []
    for _ in range(20):
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=duration * choose.uniform(0.35, 0.8))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        if (tmp_path / "killed" / FILE).exists():
            now = [
                row
                for row in rows_of(tmp_path / "killed")
                if row["status"] != "running"
            ]
            assert now[: len(ended)] == ended  # no finished trial is lost
            ended = now
    assert killed >= 1
    finish(start(tmp_path / "killed"))
    for row, expected in zip(rows_of(tmp_path / "killed"), whole, strict=True):
        row.pop("seconds"), expected.pop("seconds")
        assert row == expected
    check_whole(tmp_path / "killed")


@pytest.mark.slow
def test_search_on_a_disk_that_takes_no_more(tmp_path):
    """The kernel refuses the write, as on a full disk."""
    code = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from keras_kd.tuning.trials import study
from tuning.toy import quickly
write, calls = study.write_atomically, []
def limited(path, content):
    calls.append(path)
    if len(calls) == 8:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limit))
    write(path, content)
study.write_atomically = limited
quickly(sys.argv[1], trials=6, confirm=0, epochs=6)
"""
    tests = str(pathlib.Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), tests],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0 and "File too large" in run.stderr
    ended = [r for r in rows_of(tmp_path) if r["status"] != "running"]
    assert len(ended) >= 2
    assert not list(tmp_path.glob(".tmp-*"))
    finish(start(tmp_path))
    check_whole(tmp_path)
    assert rows_of(tmp_path)[: len(ended)] == ended
