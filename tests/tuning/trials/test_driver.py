# SPDX-License-Identifier: Apache-2.0
"""Searches in several processes, and processes that are killed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent import futures

import keras
import pytest
import tensorflow as tf

from cli.tiny_recipe import RECIPE
from keras_kd import recipes
from keras_kd.core.file_lock import file_lock
from keras_kd.core.processes import is_running
from keras_kd.engines import Engine
from keras_kd.engines import Serial
from keras_kd.engines import TaskLostError
from keras_kd.tuning.trials import driver
from keras_kd.tuning.trials import trial
from keras_kd.tuning.trials.study_file import FILE
from keras_kd.tuning.trials.trial import Outcome
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.workflows.recipe_runs import search_recipe
from tuning.toy import DATA
from tuning.toy import make_teacher
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
    """Returns the processes of Loky or Ray that a process has started."""
    words, parents = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            words[pid] = (folder / "cmdline").read_bytes()
            stat = (folder / "stat").read_text().rpartition(") ")[2]
            parents[pid] = int(stat.split()[1])
    # Ray's are children of a child.
    return [
        pid
        for pid, line in words.items()
        if b"popen_loky" in line or line.startswith(b"ray::Worker")
        if process.pid in (parents.get(pid), parents.get(parents.get(pid)))
    ]


def beside(name):
    """Returns the options of a search with two workers of an engine."""
    if name == "ray":
        pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")
    return {"workers": 2, "engine": name}


def begun(directory, count=1):
    """Returns whether so many trials have been begun."""

    def condition():
        try:
            content = json.loads((directory / FILE).read_text())
        except FileNotFoundError:
            return False
        return len(content["study"]["attempts"]) >= count

    return condition


def check_whole(directory, expected_count=TRIALS):
    rows = rows_of(directory)
    assert len(rows) == expected_count
    assert {row["status"] for row in rows} <= {COMPLETED, STOPPED}
    assert len({row["name"] for row in rows}) == expected_count
    oracle = json.loads((directory / FILE).read_text())["study"]["oracle"]
    assert oracle["end_order"] == [row["name"] for row in rows[1:]]
    assert not oracle["ongoing_trials"]


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_one_seed_gives_one_search_on_any_engine(tmp_path, tuner, capfd):
    pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")
    options = {"tuner": tuner, "trials": 8, "confirm": 0, "epochs": 3}
    options |= {"learning_rate": 0.03, "alpha": (0.0, 1.0)}
    tables = []
    for name, count in (("serial", 1), ("loky", 2), ("ray", 2)):
        directory = tmp_path / name
        found = quickly(directory, workers=count, engine=name, **options)
        assert f"on {name.capitalize()} (" in capfd.readouterr().out
        assert found.best_model.predict(DATA.test[0], verbose=0).shape[1] == 3
        if tuner != "hyperband":
            check_whole(directory, 8)
            (kept,) = (directory / "trials").iterdir()
            assert kept.name == f"{found.best.name}.keras"
        tables.append(
            [dataclasses.replace(row, seconds=0.0) for row in found.rows]
        )
    assert len(tables[0]) > 4
    assert tables[0] == tables[1] == tables[2]


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
    with pytest.raises(ValueError, match="or workers=1"):
        quickly(tmp_path, data=data, workers=2)


@pytest.mark.slow
def test_search_with_workers_tells_what_went_wrong_there(tmp_path):
    def broken(hp):
        if os.environ.get("OMP_NUM_THREADS"):  # in a worker only
            raise RuntimeError("no such width")
        from tuning.toy import build_student

        return build_student()

    with pytest.raises(RuntimeError, match="no such width"):
        quickly(tmp_path, build=broken, workers=2, confirm=0)


class Waiting(Engine):
    """Ends tasks last come, first served, as far as it has slots."""

    slots = 3

    def __init__(self):
        self.tasks = []

    def submit(self, function, *arguments):
        future = futures.Future()
        self.tasks.append((future, function, arguments))
        if len(self.tasks) == self.slots:
            future, function, arguments = self.tasks.pop()
            future.set_result(function(*arguments))
        threading.Timer(0.5, self.finish).start()
        return future

    def finish(self):
        while self.tasks:
            future, function, arguments = self.tasks.pop()
            future.set_result(function(*arguments))


def outcome_of(job, row, hp, rows, weights):
    value = 0.5 if hp is None else 1.0 / (1.0 + hp.get("temperature"))
    row = dataclasses.replace(
        row,
        status=COMPLETED,
        objective=value,
        history={"val_accuracy": [value]},
        message=str([known.name for known in rows]),
    )
    return Outcome(row, hp, b"student " + row.name.encode())


@pytest.fixture
def instant(monkeypatch):
    """Trials that take no time, with their settings for a result."""
    monkeypatch.setattr(driver, "run_trial", outcome_of)


@pytest.mark.slow
def test_search_is_the_same_whatever_ends_first(tmp_path, instant):
    options = {"trials": 12, "confirm": 0, "alpha": 0.5, "verbose": 0}
    alone = quickly(tmp_path / "alone", **options)
    last = quickly(tmp_path / "last", engine=Waiting(), **options)
    assert alone.rows == last.rows
    for result in (alone, last):
        (student,) = (result.directory / "trials").iterdir()
        assert student.read_bytes() == b"student " + result.best.name.encode()


@pytest.mark.parametrize(("make", "counted"), [(Serial, 1), (Waiting, 0)])
def test_trials_of_other_processes_do_not_count_deaths_of_this_one(
    tmp_path, instant, make, counted
):
    quickly(tmp_path, trials=2, confirm=0, verbose=0, engine=make())
    attempts = json.loads((tmp_path / FILE).read_text())["study"]["attempts"]
    assert list(attempts.values()) == [counted] * 2


def test_trial_whose_process_always_dies_has_failed(tmp_path, monkeypatch):
    def dies(job, row, *others):
        if row.name == "1":
            raise TaskLostError("its process died 3 times")
        return outcome_of(job, row, *others)

    monkeypatch.setattr(driver, "run_trial", dies)
    rows = quickly(tmp_path, trials=4, confirm=0, verbose=0).rows
    assert [row.status for row in rows] == [*[COMPLETED] * 2, FAILED, COMPLETED]
    assert rows[2].message == "its process died 3 times"


@pytest.mark.slow
def test_full_disk_or_memory_is_no_fault_of_a_trial(tmp_path, monkeypatch):
    # As often as a trial whose process dies is tried.
    full_disk = OSError(errno.ENOSPC, "No space left on device")
    for fault in (full_disk, MemoryError(), full_disk):

        def full(*_, fault=fault, **__):
            raise fault

        with monkeypatch.context() as patch:
            patch.setattr(trial, "fit_best", full)
            with pytest.raises(type(fault)):
                quickly(tmp_path, trials=2, confirm=0, epochs=1)
    rows = quickly(tmp_path, trials=2, confirm=0, epochs=1).rows
    assert [row.status for row in rows] == [COMPLETED] * 2


def test_search_of_other_arguments_leaves_the_folder_as_it_is(
    tmp_path, instant
):
    """Also its labels, which are of another teacher."""
    beside = tmp_path / "labels" / "train2017"  # a data set's
    beside.mkdir(parents=True)
    (beside / "settings.json").touch()
    quickly(tmp_path, trials=2, confirm=0)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert beside in before
    teacher = make_teacher()
    teacher.set_weights([w + 1 for w in teacher.get_weights()])
    with pytest.raises(ValueError, match="holds another search"):
        quickly(tmp_path, trials=2, confirm=0, teacher=teacher)
    wrong = keras.losses.MeanSquaredError  # a class is no loss
    with pytest.raises((ValueError, TypeError)):
        quickly(tmp_path, distillation_losses=wrong, overwrite=True)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_search_waits_for_no_other_in_its_folder(tmp_path, instant):
    with file_lock(tmp_path), pytest.raises(ValueError, match="one at a time"):
        quickly(tmp_path, trials=2, confirm=0)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loky", "ray"])
def test_search_survives_the_death_of_workers(tmp_path, engine):
    process = start(tmp_path, **beside(engine))
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
@pytest.mark.parametrize("engine", ["loky", "ray"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_search_that_started_them(
    tmp_path, number, engine
):
    process = start(tmp_path, **beside(engine))
    wait_for(begun(tmp_path))
    wait_for(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    process.send_signal(number)
    process.communicate()
    wait_for(lambda: not any(map(is_running, workers)), seconds=20)
    finish(start(tmp_path, **beside(engine)))
    check_whole(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["serial", "loky", "ray"])
def test_search_killed_at_random_ends_as_an_uninterrupted_one(tmp_path, engine):
    options = {} if engine == "serial" else beside(engine)
    began = time.monotonic()
    finish(start(tmp_path / "whole", **options))
    duration = time.monotonic() - began
    whole = rows_of(tmp_path / "whole")
    choose, killed, ended = random.Random(0), 0, []
    for _ in range(20 if engine == "serial" else 5):
        process = start(tmp_path / "killed", **options)
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
    finish(start(tmp_path / "killed", **options))
    for row, expected in zip(rows_of(tmp_path / "killed"), whole, strict=True):
        row.pop("seconds"), expected.pop("seconds")
        assert row == expected
    check_whole(tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["serial", "loky", "ray"])
def test_search_on_a_disk_that_takes_no_more(tmp_path, engine):
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
if __name__ == "__main__":
    options = dict(trials=6, confirm=0, epochs=6)
    quickly(sys.argv[1], **options, **eval(sys.argv[3]))
"""
    options = {} if engine == "serial" else beside(engine)
    tests = str(pathlib.Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), tests, str(options)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0 and "File too large" in run.stderr
    ended = [r for r in rows_of(tmp_path) if r["status"] != "running"]
    assert len(ended) >= 2
    assert not list(tmp_path.glob(".tmp-*"))
    finish(start(tmp_path, **options))
    check_whole(tmp_path)
    assert rows_of(tmp_path)[: len(ended)] == ended
