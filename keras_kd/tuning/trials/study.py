# SPDX-License-Identifier: Apache-2.0
"""Study: the state of a search on disk, shared by any number of processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

import keras_tuner

from keras_kd.core.file_lock import file_lock
from keras_kd.core.records import write_atomically
from keras_kd.core.stage_cache import fingerprint
from keras_kd.tuning.space import oracles
from keras_kd.tuning.trials.heartbeats import Heartbeats
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import shown

WAIT = "wait"
MAX_ATTEMPTS = 3
FILE = "study.json"

_AGAIN = (
    "delete that folder to begin again (search has overwrite=True for it, and "
    "`keras-kd search` --overwrite)"
)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A trial in the hands of one process.

    The token names the attempt: if the process is given up for dead and the
    trial handed to another, what the first one reports late no longer counts.
    """

    name: str
    hyperparameters: keras_tuner.HyperParameters | None  # of the control, none
    token: str


class Study:
    """What a search has tried so far, and what it should try next.

    A KerasTuner oracle proposes. It and the trials are one file, which is
    replaced by a rename under a lock: a killed process, or a full disk,
    leaves the state before or after a step, never one in between. There is
    no chief to lose: each process takes a trial, reports it, and takes the
    next. A trial whose process has died is handed to another one.

    Args:
        directory: Folder of the search, on a disk that all processes share.
        make_oracle: Returns the oracle of a search that begins; `None` to
            join one that is there.
        definition: What the search is (a fingerprint); a folder holds one.
            `None` for whatever is there.
        control: Whether a student without a teacher is tried first.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        make_oracle: Callable[[], keras_tuner.Oracle] | None = None,
        definition: str | None = None,
        control: bool = True,
    ):
        self.directory = pathlib.Path(directory)
        self.definition = definition
        self.control = control
        self.heartbeats = Heartbeats(self.directory / "heartbeats")
        self._make_oracle = make_oracle
        with self._state():
            pass

    def take(self) -> Attempt | str | None:
        """Returns what to run next.

        An `Attempt`; `WAIT` if others have to end first; `None` when all is
        done.
        """
        with self._state() as state:
            lost = self._first_lost(state)
            if lost is not None:
                return self._hand_out(state, lost)
            if self.control and CONTROL not in state.rows:
                return self._hand_out(state, CONTROL)
            trial = oracles.propose(state.oracle, uuid.uuid4().hex)
            if trial.status == "RUNNING":
                return self._hand_out(state, trial.trial_id)
            if trial.status == "IDLE" or state.running:
                return WAIT
            return None

    def finish(self, attempt: Attempt, row: TrialRecord) -> bool:
        """Records how an attempt ended, and returns whether it counted.

        It does not if the trial was handed to another process meanwhile.
        """
        with self._state() as state:
            held = state.running.get(attempt.name)
            if held is None or held["token"] != attempt.token:
                return False
            state.end(row, attempt.hyperparameters)
        self.heartbeats.forget(attempt.token)
        return True

    def rows(self) -> list[TrialRecord]:
        """Returns all trials, in the order in which they were started."""
        return [TrialRecord(**row) for row in self._content()["rows"]]

    def set_trials(self, count: int) -> None:
        """Sets how many trials there may be; a finished search goes on."""
        with self._state() as state:
            state.oracle.max_trials = count

    def hyperparameters(self, name: str) -> keras_tuner.HyperParameters:
        """Returns the settings of a trial as KerasTuner holds them."""
        return self._read().oracle.trials[name].hyperparameters

    # How a trial changes hands.

    def _hand_out(self, state, name):
        token = uuid.uuid4().hex
        attempts = state.attempts.get(name, 0) + 1
        state.attempts[name] = attempts
        state.running[name] = {"token": token, **self.heartbeats.me()}
        self.heartbeats.beat(token)
        hyperparameters, settings = None, {}
        if name != CONTROL:
            trial = state.oracle.trials[name]
            trials = state.oracle.ongoing_trials
            for old in [k for k, v in trials.items() if v is trial]:
                del trials[old]
            trials[token] = trial
            if attempts == 1 and name == state.oracle.start_order[0]:
                oracles.start_from_defaults(state.oracle, trial)
            hyperparameters = trial.hyperparameters.copy()
            settings = shown(hyperparameters)
        state.rows[name] = TrialRecord(name, settings, RUNNING)
        return Attempt(name, hyperparameters, token)

    def _first_lost(self, state):
        for name, held in list(state.running.items()):
            if self.heartbeats.is_alive(held):
                continue
            if state.attempts[name] < MAX_ATTEMPTS:
                return name
            message = f"its process died {MAX_ATTEMPTS} times"
            row = dataclasses.replace(
                state.rows[name], status=FAILED, message=message
            )
            trial = state.oracle.trials.get(name)  # of the control, none
            state.end(row, trial and trial.hyperparameters)
        return None

    # How it is kept.

    @contextlib.contextmanager
    def _state(self):
        """Yields the state under the lock; keeps it if the block ends."""
        with file_lock(self.directory):
            state = self._read()
            yield state
            self._write(state)

    def _read(self) -> _State:
        content = self._content()
        if content is None:
            return _State(oracles.quiet(self._make_oracle()))
        try:
            oracle = oracles.unpacked(content["oracle"])
        except Exception as error:
            raise ValueError(
                f"{self.directory / FILE} cannot be read by keras-tuner "
                f"{keras_tuner.__version__}; it was written by "
                f"{content['keras_tuner']}. Install that version, or "
                f"{_AGAIN}. Received: {error}"
            ) from error
        rows = {row["name"]: TrialRecord(**row) for row in content["rows"]}
        return _State(oracle, rows, content["running"], content["attempts"])

    def _content(self) -> dict | None:
        """Returns what is on disk, checked; `None` if nothing is to be."""
        path = self.directory / FILE
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            if self._make_oracle is None:
                raise ValueError(
                    f"{self.directory} holds no search. Expected the "
                    "directory of one that was begun."
                ) from None
            return None
        try:
            found = json.loads(text)
            content = found["study"]
            if found["sha256"] != fingerprint(content):
                raise ValueError("its sha256 is another one")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged: {error}. Restore it from a backup, or "
                f"{_AGAIN}."
            ) from error
        if self.definition is None:
            self.definition = content["definition"]
            self.control = content["control"]
        if content["definition"] != self.definition:
            raise ValueError(
                f"{self.directory} holds another search: the teacher, the "
                "data, the student or a setting differs from what is asked "
                "now. Expected the same arguments (only `trials` and "
                "`workers` may change). Use another directory, or "
                f"{_AGAIN}."
            )
        return content

    def _write(self, state):
        content = {
            "definition": self.definition,
            "control": self.control,
            "keras_tuner": keras_tuner.__version__,
            "rows": [dataclasses.asdict(row) for row in state.rows.values()],
            "running": state.running,
            "attempts": state.attempts,
            # Whole, since what the oracles' own state files hold is not
            # enough to go on with a grid or a random state.
            "oracle": oracles.packed(state.oracle),
        }
        whole = {"sha256": fingerprint(content), "study": content}
        write_atomically(
            self.directory / FILE, json.dumps(whole, indent=1) + "\n"
        )


@dataclasses.dataclass
class _State:
    oracle: keras_tuner.Oracle
    rows: dict[str, TrialRecord] = dataclasses.field(default_factory=dict)
    running: dict[str, dict] = dataclasses.field(default_factory=dict)
    attempts: dict[str, int] = dataclasses.field(default_factory=dict)

    def end(self, row: TrialRecord, hyperparameters: Any) -> None:
        del self.running[row.name]
        self.rows[row.name] = row
        if row.name != CONTROL:
            oracles.tell(self.oracle, hyperparameters, row)
