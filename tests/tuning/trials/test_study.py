# SPDX-License-Identifier: Apache-2.0
"""The state of a search: killed anywhere, it goes on as if it had not been."""

import concurrent.futures
import dataclasses
import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time

import keras_tuner
import numpy as np
import pytest

from keras_kd.core.file_lock import file_lock
from keras_kd.tuning.space import oracles
from keras_kd.tuning.trials import heartbeats
from keras_kd.tuning.trials import study as study_module
from keras_kd.tuning.trials.study import MAX_ATTEMPTS
from keras_kd.tuning.trials.study import WAIT
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
TRIALS = 7


def make_space():
    space = keras_tuner.HyperParameters()
    space.Float("temperature", 1.0, 20.0, sampling="log", default=4.0)
    space.Float("alpha", 0.0, 1.0, default=0.7)
    return space


def make_grid():
    space = keras_tuner.HyperParameters()
    space.Choice("temperature", [1.0, 2.0, 4.0], default=4.0)
    space.Choice("alpha", [0.3, 0.7], default=0.7)
    return space


def make_study(
    directory, tuner="random", definition="a", seed=0, trials=TRIALS
):
    space = make_grid() if tuner == "grid" else make_space()
    return Study(
        directory,
        lambda: oracles.make_oracle(tuner, OBJECTIVE, trials, seed, 9, space),
        definition,
    )


def value_of(attempt):
    if attempt.name == CONTROL:
        return 0.5
    values = attempt.hyperparameters.values
    return 0.9 - 0.01 * values["temperature"] - 0.1 * abs(values["alpha"] - 0.5)


def run_one(study, attempt):
    row = next(row for row in study.rows() if row.name == attempt.name)
    value = value_of(attempt)
    return dataclasses.replace(
        row,
        status=COMPLETED,
        objective=value,
        history={"val_accuracy": [value - 0.1, value]},
        seconds=1.0,
    )


def run_all(study):
    while (attempt := study.take()) is not None:
        assert attempt != WAIT
        assert study.finish(attempt, run_one(study, attempt))
    return study.rows()


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


@pytest.fixture
def dead(monkeypatch):
    """Makes all attempts but those of the running call count as dead."""
    monkeypatch.setattr(
        heartbeats.Heartbeats, "is_alive", lambda self, held: False
    )


@pytest.mark.parametrize("tuner", oracles.TUNERS)
def test_study_runs_the_control_and_all_trials(tmp_path, tuner):
    rows = run_all(make_study(tmp_path, tuner))
    assert rows[0].name == CONTROL
    count = 6 if tuner == "grid" else TRIALS
    assert len(rows) == 1 + count
    assert all(row.status == COMPLETED for row in rows)
    settings = [json.dumps(row.settings) for row in rows[1:]]
    if tuner != "hyperband":  # which goes on with earlier settings
        assert len(set(settings)) == count


@pytest.mark.parametrize("tuner", oracles.TUNERS)
def test_study_with_one_seed_is_one_search(tmp_path, tuner):
    first = run_all(make_study(tmp_path / "a", tuner))
    again = run_all(make_study(tmp_path / "b", tuner))
    assert first == again
    if tuner != "grid":
        other = run_all(make_study(tmp_path / "c", tuner, seed=1))
        assert [r.settings for r in first] != [r.settings for r in other]


@pytest.mark.parametrize("tuner", ["bayesian", "random", "hyperband"])
def test_study_starts_from_the_defaults(tmp_path, tuner):
    rows = run_all(make_study(tmp_path, tuner, trials=2))
    is_default = rows[1].settings == {"temperature": 4.0, "alpha": 0.7}
    assert is_default == (tuner != "hyperband")


@pytest.mark.parametrize("moment", ["half", "after"])
@pytest.mark.parametrize("tuner", oracles.TUNERS)
def test_study_killed_at_every_write_ends_the_same(
    tmp_path, monkeypatch, dead, tuner, moment
):
    expected = run_all(make_study(tmp_path / "whole", tuner, trials=4))
    write, calls = study_module.write_atomically, []

    def count(path, content):
        calls.append(path)
        write(path, content)

    monkeypatch.setattr(study_module, "write_atomically", count)
    run_all(make_study(tmp_path / "counted", tuner, trials=4))
    assert len(calls) > 2 * len(expected)

    for fatal in range(1, len(calls) + 1):
        left = [fatal]

        def deadly(path, content, left=left):
            left[0] -= 1
            if left[0] != 0:
                return write(path, content)
            if moment == "after":
                write(path, content)
            else:
                half = path.with_name(f".tmp-x-{path.name}")
                half.write_text(content[: len(content) // 2])
            raise Killed

        directory = tmp_path / f"{fatal}"
        monkeypatch.setattr(study_module, "write_atomically", deadly)
        try:
            run_all(make_study(directory, tuner, trials=4))
        except Killed:
            monkeypatch.setattr(study_module, "write_atomically", write)
        rows = run_all(make_study(directory, tuner, trials=4))
        assert rows == expected, (fatal, moment)


def test_study_loses_nothing_on_a_full_disk(tmp_path, monkeypatch, dead):
    expected = run_all(make_study(tmp_path / "whole"))
    study = make_study(tmp_path / "full")
    write, left = study_module.write_atomically, [6]

    def full(path, content):
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(study_module, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        run_all(study)
    ended = [r for r in study.rows() if r.status == COMPLETED]
    assert ended == expected[: len(ended)] and len(ended) > 1
    assert run_all(make_study(tmp_path / "full")) == expected


def test_study_hands_the_trial_of_a_dead_process_to_the_next(tmp_path):
    study = make_study(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    lost = study.rows()[0]
    assert lost.status == RUNNING
    attempt = study.take()
    assert attempt.name == lost.name
    assert study.finish(attempt, run_one(study, attempt))
    assert len(run_all(study)) == 1 + TRIALS


CHILD = """
import os, signal, sys
from keras_kd.tuning.trials.study import Study
Study(sys.argv[1]).take()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_study_counts_no_trial_twice(tmp_path, monkeypatch):
    study = make_study(tmp_path)
    slow = study.take()
    monkeypatch.setattr(heartbeats, "SILENCE", -1.0)  # it gave no sign in time
    quick = study.take()
    assert quick.name == slow.name and quick.token != slow.token
    assert study.finish(quick, run_one(study, quick))
    assert not study.finish(slow, run_one(study, slow))
    names = [row.name for row in study.rows()]
    assert names == [CONTROL]


def test_study_is_locked_by_a_file(tmp_path, monkeypatch):
    """A lock on the folder would leave out the machines it is shared with."""
    kinds, flock = set(), fcntl.flock

    def seen(file, how):
        kinds.add(
            stat.S_IFMT(
                os.fstat(
                    file if isinstance(file, int) else file.fileno()
                ).st_mode
            )
        )
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", seen)
    study = make_study(tmp_path)
    assert kinds == {stat.S_IFREG}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with file_lock(tmp_path):
            taken = pool.submit(study.take)
            with pytest.raises(TimeoutError):
                taken.result(timeout=0.5)
        assert taken.result(timeout=30).name == CONTROL


def test_study_leaves_a_living_process_its_trial(tmp_path):
    study = make_study(tmp_path)
    first, second = study.take(), study.take()
    assert {first.name, second.name} == {CONTROL, "0"}
    assert study.finish(second, run_one(study, second))
    assert study.finish(first, run_one(study, first))


def test_study_waits_while_others_work_on_the_last_trials(tmp_path):
    study = make_study(tmp_path, trials=1)
    first, last = study.take(), study.take()
    assert study.take() == WAIT
    study.finish(first, run_one(study, first))
    assert study.take() == WAIT
    study.finish(last, run_one(study, last))
    assert study.take() is None


def test_study_gives_up_a_trial_that_kills_its_process(tmp_path, dead):
    study = make_study(tmp_path)
    attempt = study.take()
    study.finish(attempt, run_one(study, attempt))
    names = [study.take().name for _ in range(MAX_ATTEMPTS)]
    assert names == ["0"] * MAX_ATTEMPTS
    rows = run_all(study)
    assert rows[1].status == FAILED
    assert "died 3 times" in rows[1].message
    assert [row.status for row in rows[2:]] == [COMPLETED] * (TRIALS - 1)


def test_study_takes_a_failed_trial_for_failed(tmp_path):
    study = make_study(tmp_path, "bayesian")
    for _ in range(4):
        attempt = study.take()
        row = run_one(study, attempt)
        if attempt.name == "1":
            row = dataclasses.replace(
                row, status=FAILED, objective=None, history={}, message="no"
            )
        study.finish(attempt, row)
    rows = run_all(study)
    assert [r.name for r in rows if r.status == FAILED] == ["1"]
    assert len(rows) == 1 + TRIALS


def test_study_ignores_an_epoch_without_a_number(tmp_path):
    study = make_study(tmp_path)
    control = study.take()
    study.finish(control, run_one(study, control))
    attempt = study.take()
    row = dataclasses.replace(
        run_one(study, attempt), history={"val_accuracy": [np.nan, 0.75]}
    )
    study.finish(attempt, row)
    assert study._read().oracle.trials["0"].score == 0.75


def test_study_goes_on_with_more_trials(tmp_path):
    first = run_all(make_study(tmp_path, trials=3))
    study = make_study(tmp_path, trials=5)
    study.set_trials(5)
    more = run_all(study)
    assert more[:4] == first and len(more) == 6


def test_study_refuses_the_folder_of_another_search(tmp_path):
    make_study(tmp_path)
    with pytest.raises(ValueError, match="holds another search.*overwrite"):
        make_study(tmp_path, definition="b")


def test_study_joins_only_what_is_there(tmp_path):
    with pytest.raises(ValueError, match="holds no search"):
        Study(tmp_path)
    run_all(make_study(tmp_path))
    assert Study(tmp_path).take() is None


@pytest.mark.parametrize("where", [0.01, 0.3, 0.6, 0.95])
def test_study_names_a_damaged_file(tmp_path, where):
    run_all(make_study(tmp_path))
    path = tmp_path / study_module.FILE
    content = bytearray(path.read_bytes())
    place = int(where * len(content))
    while not chr(content[place]).isalnum():
        place += 1
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="study.json is damaged"):
        make_study(tmp_path)


def test_study_refuses_an_unknown_tuner():
    with pytest.raises(ValueError, match="`tuner` must be one of"):
        oracles.make_oracle("best", OBJECTIVE, 3, 0, 3, make_space())


def test_heartbeats_tell_of_a_process_that_is_gone_or_silent(tmp_path):
    beats = heartbeats.Heartbeats(tmp_path / "heartbeats")
    held = {"token": "t", **beats.me()}
    assert not beats.is_alive(held)  # no heartbeat yet
    beats.beat("t")
    assert beats.is_alive(held)
    long_ago = time.time() - 2 * heartbeats.SILENCE
    os.utime(tmp_path / "heartbeats" / "t", (long_ago, long_ago))
    assert not beats.is_alive(held)
    beats.beat("t")
    other = subprocess.Popen([sys.executable, "-c", ""])
    other.wait()
    assert not beats.is_alive({**held, "pid": other.pid})
    # A process of another machine is known by its signs alone.
    assert beats.is_alive({**held, "pid": other.pid, "host": "elsewhere"})


def test_heartbeats_go_on_while_a_block_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeats, "EVERY", 0.02)
    beats = heartbeats.Heartbeats(tmp_path)
    path = tmp_path / "t"
    with beats.beating("t"):
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.exists()
    path.unlink()
    time.sleep(0.1)
    assert not path.exists()
