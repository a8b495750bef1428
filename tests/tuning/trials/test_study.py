# SPDX-License-Identifier: Apache-2.0
"""The state of a search: killed anywhere, it goes on as if it had not been."""

import dataclasses
import errno
import json
import pickle
import random

import keras_tuner
import numpy as np
import pytest

from keras_kd.core.stage_cache import fingerprint
from keras_kd.tuning.space import oracles
from keras_kd.tuning.trials import study as study_module
from keras_kd.tuning.trials.study import AHEAD
from keras_kd.tuning.trials.study import MAX_ATTEMPTS
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.study_file import clear
from keras_kd.tuning.trials.trial_record import COMPLETED
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING
from selection import quick

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
    directory,
    tuner="random",
    definition="a",
    seed=0,
    trials=TRIALS,
    ahead=AHEAD,
):
    space = make_grid() if tuner == "grid" else make_space()
    directory.mkdir(parents=True, exist_ok=True)
    oracle = oracles.make_oracle(
        tuner, OBJECTIVE, trials, seed, 9, space, ahead
    )
    return Study(directory, definition, oracle, ahead=ahead)


def value_of(hp):
    if hp is None:
        return 0.5
    values = hp.values
    return 0.9 - 0.01 * values["temperature"] - 0.1 * abs(values["alpha"] - 0.5)


def run_one(study, row, **changes):
    hp = study.hyperparameters(row.name)
    value = value_of(hp)
    ended = {
        "status": COMPLETED,
        "objective": value,
        "history": {"val_accuracy": [value - 0.1, value]},
        "seconds": 1.0,
        **changes,
    }
    study.end(dataclasses.replace(row, **ended), hp)


def run_all(study, slots=1, choose=None):
    """Runs the trials left as the driver does, `slots` at a time."""
    waiting, under_way = study.unfinished(), []
    while True:
        waiting += study.propose()
        while waiting and len(under_way) < slots:
            under_way.append(study.begin(waiting.pop(0)))
        if not under_way:
            return study.rows()
        place = choose.randrange(len(under_way)) if choose else 0
        run_one(study, under_way.pop(place))


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


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
    tmp_path, monkeypatch, tuner, moment
):
    expected = run_all(make_study(tmp_path / "whole", tuner, trials=3))
    write, calls = study_module.write_atomically, []

    def count(path, content):
        calls.append(path)
        write(path, content)

    monkeypatch.setattr(study_module, "write_atomically", count)
    run_all(make_study(tmp_path / "counted", tuner, trials=3))
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
            run_all(make_study(directory, tuner, trials=3))
        except Killed:
            monkeypatch.setattr(study_module, "write_atomically", write)
        rows = run_all(make_study(directory, tuner, trials=3))
        assert rows == expected, (fatal, moment)


def test_study_loses_nothing_on_a_full_disk(tmp_path, monkeypatch):
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


@pytest.mark.parametrize(
    ("tuner", "trials"),
    # The seventh is the first that a Gaussian process proposes; each further
    # one takes seconds.
    quick(1, [("bayesian", 7), *((tuner, 8) for tuner in oracles.TUNERS)]),
)
def test_study_is_one_search_however_many_trials_run(tmp_path, tuner, trials):
    """Also where later trials end first, and where it goes on from disk."""
    expected = run_all(make_study(tmp_path / "one", tuner, trials=6))
    for slots in (2, AHEAD):
        study = make_study(tmp_path / str(slots), tuner, trials=6)
        found = run_all(study, slots, random.Random(slots))
        assert found == expected, slots


def test_study_tells_in_the_order_of_the_proposals(tmp_path):
    study = make_study(tmp_path, "bayesian")
    control, first, second, third = map(study.begin, study.propose())
    run_one(study, third)
    run_one(study, first)
    assert study.propose() == [] and study.oracle.end_order == []
    run_one(study, control)
    assert study.propose() == ["3", "4"]
    assert study.oracle.end_order == ["0"]
    again = make_study(tmp_path, "bayesian")
    assert again.unfinished() == ["1", "3", "4"]
    run_one(again, second)
    again.propose()
    assert again.oracle.end_order == ["0", "1", "2"]
    assert [row.name for row in again.known_to("4")] == [CONTROL, "0"]


def test_study_gives_up_a_trial_that_kills_its_process(tmp_path):
    study = make_study(tmp_path)
    control, name, *_ = study.propose()
    run_one(study, study.begin(control))
    for attempt in range(MAX_ATTEMPTS):
        study = make_study(tmp_path)  # as after the death of the process
        assert name in study.unfinished(), attempt
        study.begin(name)
    rows = run_all(make_study(tmp_path))
    assert rows[1].status == FAILED
    assert "died 3 times" in rows[1].message
    assert [row.status for row in rows[2:]] == [COMPLETED] * (TRIALS - 1)


def test_study_blames_no_trial_that_someone_stopped(tmp_path):
    make_study(tmp_path).propose()
    for _ in range(MAX_ATTEMPTS + 1):
        study = make_study(tmp_path)
        study.begin(CONTROL)
        study.give_back()
    assert CONTROL in make_study(tmp_path).unfinished()


def test_study_blames_no_trial_that_ran_elsewhere(tmp_path):
    """What died was the driver; the engine tells of its own processes."""
    make_study(tmp_path).propose()
    for _ in range(MAX_ATTEMPTS + 1):
        make_study(tmp_path).begin(CONTROL, here=False)
    assert CONTROL in make_study(tmp_path).unfinished()


def test_study_takes_a_failed_trial_for_failed(tmp_path):
    study = make_study(tmp_path, "bayesian")
    for name in study.propose():
        failed = {"status": FAILED, "objective": None, "history": {}}
        changes = failed if name == "1" else {}
        run_one(study, study.begin(name), **changes)
    rows = run_all(study)
    assert [r.name for r in rows if r.status == FAILED] == ["1"]
    assert len(rows) == 1 + TRIALS


def test_study_ignores_an_epoch_without_a_number(tmp_path):
    study = make_study(tmp_path)
    for name in study.propose():
        history = {"val_accuracy": [np.nan, 0.75]}
        run_one(study, study.begin(name), history=history)
    study.propose()
    assert study.oracle.trials["0"].score == 0.75
    assert make_study(tmp_path).oracle.trials["0"].score == 0.75


def test_study_goes_on_with_more_trials(tmp_path):
    first = run_all(make_study(tmp_path, trials=3))
    more = run_all(make_study(tmp_path, trials=5))
    assert more[:4] == first and len(more) == 6


@pytest.mark.parametrize("other", [{"definition": "b"}, {"ahead": 2}])
def test_study_refuses_the_folder_of_another_search(tmp_path, other):
    make_study(tmp_path).propose()
    with pytest.raises(ValueError, match="holds another search.*overwrite"):
        make_study(tmp_path, **other)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle of the folder was opened",)


def old_study(directory, rows, **changes):
    """Writes a study as versions up to 0.1 did, with a pickled oracle."""
    content = {
        "definition": "a",
        "control": True,
        "keras_tuner": "1.4.8",
        "rows": [dataclasses.asdict(row) for row in rows],
        "running": {},
        "attempts": {},
        "oracle": pickle.dumps(Trap()).hex(),
        **changes,
    }
    whole = {"sha256": fingerprint(content), "study": content}
    (directory / study_module.FILE).write_text(json.dumps(whole))


def test_study_of_version_0_1_is_read_and_nothing_of_it_is_run(tmp_path):
    rows = run_all(make_study(tmp_path, trials=3))
    old_study(tmp_path, rows)
    before = (tmp_path / study_module.FILE).read_bytes()
    study = make_study(tmp_path, trials=3)
    assert run_all(study) == rows
    assert study.hyperparameters("1").values == rows[2].settings
    assert (tmp_path / study_module.FILE).read_bytes() == before
    with pytest.raises(ValueError, match="version 0.1 that has not ended"):
        make_study(tmp_path, trials=4)
    rows[-1] = dataclasses.replace(rows[-1], status=RUNNING)
    old_study(tmp_path, rows)
    with pytest.raises(ValueError, match=r"running: \['2'\]"):
        make_study(tmp_path, trials=3)


def test_study_takes_no_name_that_leads_out_of_its_folder(tmp_path):
    rows = run_all(make_study(tmp_path, trials=2))
    rows[1] = dataclasses.replace(rows[1], name="../../other")
    old_study(tmp_path, rows)
    with pytest.raises(ValueError, match="a trial called '../../other'"):
        make_study(tmp_path, trials=2)
    clear(tmp_path)  # nothing of that name


def test_clear_removes_what_the_study_names_and_nothing_else(tmp_path):
    home, search = tmp_path / "home", tmp_path / "search"
    home.mkdir()
    run_all(make_study(search, trials=2))
    ours = ["trials/0.keras", "logs/control/mine", "trials/mine.keras"]
    for path in [search / name for name in ours] + [home / "1.keras"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (search / "trials" / "1.keras").symlink_to(home / "1.keras")
    clear(search)
    left = {str(p.relative_to(search)) for p in search.rglob("*")}
    assert left == {
        *("trials", "trials/mine.keras", "trials/1.keras"),
        *("logs", "logs/control", "logs/control/mine"),
    }
    run_all(make_study(search, trials=2))
    (search / "trials").rename(home / "trials")
    (search / "trials").symlink_to(home / "trials")
    (home / "trials" / "0.keras").touch()
    clear(search)
    assert (home / "trials" / "0.keras").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "[" * 100_000, "null", "x"])
def test_clear_of_a_folder_whose_study_is_none_touches_nothing(tmp_path, text):
    for name in ("search.html", "workers.log"):
        (tmp_path / name).touch()
    (tmp_path / study_module.FILE).write_text(text)
    with pytest.raises(ValueError, match="study.json is damaged"):
        make_study(tmp_path)
    clear(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


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


def test_weights_that_were_changed_are_not_gone_on_from(tmp_path):
    study, file = make_study(tmp_path), tmp_path / "0000.weights.h5"
    study.propose()
    file.write_bytes(b"weights")
    study.end(study.begin(CONTROL), None, [file])
    again = make_study(tmp_path)
    assert again.sound(file).read_bytes() == b"weights"
    file.write_bytes(b"weighty")
    with pytest.raises(ValueError, match=r"0000\.weights\.h5 is damaged"):
        again.sound(file)
