# SPDX-License-Identifier: Apache-2.0
"""Study: what a search has tried, on disk; one process writes it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_kd.core.records import file_sha256
from keras_kd.core.records import write_atomically
from keras_kd.core.stage_cache import fingerprint
from keras_kd.tuning.space import oracles
from keras_kd.tuning.trials.study_file import AGAIN
from keras_kd.tuning.trials.study_file import FILE
from keras_kd.tuning.trials.study_file import NAME
from keras_kd.tuning.trials.study_file import read_study
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import RUNNING
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import shown

MAX_ATTEMPTS = 3
AHEAD = 4


class Study:
    """What a search has tried so far, and what it should try next.

    A KerasTuner oracle proposes. It and the trials are one JSON file, which
    is replaced by a rename: a killed process, or a full disk, leaves the
    state before or after a step, never one in between.

    `ahead` trials are under way: the next is proposed when the first of them
    has ended. The oracle is told how trials ended in the order in which it
    has proposed them, one before each proposal. So what it proposes depends
    on no clock, nor on how many trials run at a time.

    Args:
        directory: Folder of the search.
        definition: What the search is (a fingerprint); a folder holds one.
        oracle: A new one, which goes on where the folder's was.
        control: Whether a student without a teacher is tried first.
        ahead: See above.

    Raises:
        ValueError: If the folder holds another search, or a damaged one.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        definition: str,
        oracle: keras_tuner.Oracle,
        control: bool = True,
        ahead: int = AHEAD,
    ):
        self.directory = directory
        self.oracle = oracles.quiet(oracle)
        self.ahead = ahead
        self._is = {"definition": definition, "control": control}
        self._rows: dict[str, TrialRecord] = {}
        self._attempts: dict[str, int] = {}
        # Hyperparameters of trials that have ended before an earlier one.
        self._untold: dict[str, Any] = {}
        self._told = 0
        # The sha256 of each file that trials have left, by its name.
        self._files: dict[str, str] = {}
        content = read_study(directory)
        if content is not None:
            self._go_on(content)

    def propose(self) -> list[str]:
        """Returns the trials that may begin now and were not named before.

        None, if others have to end first or all is done.
        """
        told, names = self._told, []
        while True:
            while len(self._rows) - self._told < self.ahead:
                if (row := self._proposed()) is None:
                    break
                self._rows[row.name] = row
                names.append(row.name)
            # One at a time: the next proposal is to know no more than this.
            if not self._tell_one():
                break
        if names or told != self._told:
            self._write()
        return names

    def begin(self, name: str, here: bool = True) -> TrialRecord:
        """Notes that a trial begins; one that kills this process is known.

        Args:
            name: The trial's.
            here: Whether it runs in this process. An engine counts for itself
                how often a process of its own has died.
        """
        self._attempts[name] = self._attempts.get(name, 0) + here
        self._write()
        return self._rows[name]

    def give_back(self) -> None:
        """Notes that trials did not end because someone stopped them."""
        for name in self.unfinished():
            self._attempts[name] = max(self._attempts.get(name, 0) - 1, 0)
        self._write()

    def end(
        self,
        row: TrialRecord,
        found: keras_tuner.HyperParameters | None,
        files: Sequence[pathlib.Path] = (),
    ) -> None:
        """Notes how a trial ended, what it asked of its settings, its files."""
        self._rows[row.name] = row
        self._files |= {file.name: file_sha256(file) for file in files}
        self._untold[row.name] = found.get_config() if found else None
        self._write()

    def rows(self) -> list[TrialRecord]:
        """Returns all trials, in the order in which they were proposed."""
        return list(self._rows.values())

    def unfinished(self) -> list[str]:
        """Returns the trials that were proposed and have not ended."""
        return [row.name for row in self.rows() if row.status == RUNNING]

    def known_to(self, name: str) -> list[TrialRecord]:
        """Returns the trials that have ended before one begins, in any run."""
        count = list(self._rows).index(name) + 1 - self.ahead
        return self.rows()[: max(count, 0)]

    def hyperparameters(self, name: str) -> keras_tuner.HyperParameters | None:
        """Returns a trial's settings; of the control, none."""
        if name == CONTROL:
            return None
        return self.oracle.trials[name].hyperparameters.copy()

    def sound(self, file: pathlib.Path) -> pathlib.Path:
        """Returns the file of a trial; ValueError if it was changed."""
        # An earlier version did not note what trials left.
        if self._files.get(file.name, now := file_sha256(file)) != now:
            raise ValueError(
                f"{file} is damaged or was changed: its sha256 is {now}, "
                f"expected {self._files[file.name]} as in {FILE}. Restore it "
                f"from a backup, or {AGAIN}."
            )
        return file

    def _proposed(self):
        if self._is["control"] and CONTROL not in self._rows:
            return TrialRecord(CONTROL, {}, RUNNING)
        trial = oracles.propose(self.oracle)
        if trial is None:
            return None
        settings = shown(trial.hyperparameters)
        return TrialRecord(trial.trial_id, settings, RUNNING)

    def _tell_one(self):
        """Tells how the first trial ended that was not told, if it has."""
        rows = self.rows()[self._told :]
        if not rows or rows[0].status == RUNNING:
            return False
        found = self._untold.pop(rows[0].name)
        if rows[0].name != CONTROL:
            found = keras_tuner.HyperParameters.from_config(found)
            oracles.tell(self.oracle, found, rows[0])
        self._told += 1
        return True

    def _go_on(self, content):
        if (content["definition"], content.get("ahead", self.ahead)) != (
            self._is["definition"],
            self.ahead,
        ):
            raise ValueError(
                f"{self.directory} holds another search: the teacher, the "
                "data, the student or a setting differs from what is asked "
                "now. Expected the same arguments (only `trials`, `workers` "
                "and `engine` may change). Use another directory, or "
                f"{AGAIN}."
            )
        self._files = content.get("files", {})
        for row in content["rows"]:
            if not NAME.fullmatch(row["name"]):
                raise ValueError(
                    f"{self.directory / FILE} is not what a search writes. "
                    f"Received: a trial called {row['name']!r}"
                )
            self._rows[row["name"]] = TrialRecord(**row)
        if isinstance(content["oracle"], str):
            self._read_only()
            return
        try:
            oracles.restore(self.oracle, content["oracle"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.directory / FILE} cannot be read by keras-tuner "
                f"{keras_tuner.__version__}; it was written by "
                f"{content['keras_tuner']}. Install that version, or "
                f"{AGAIN}. Received: {error}"
            ) from error
        self._attempts = content["attempts"]
        self._untold, self._told = content["untold"], content["told"]
        for name in self.unfinished():
            if self._attempts.get(name, 0) >= MAX_ATTEMPTS:
                message = f"its process died {MAX_ATTEMPTS} times"
                row = dataclasses.replace(
                    self._rows[name], status=FAILED, message=message
                )
                self.end(row, self.hyperparameters(name))

    def _read_only(self):
        """Takes the trials of a version up to 0.1, which pickled its oracle."""
        for row in self.rows():
            if row.name != CONTROL:
                hyperparameters = self.oracle.get_space()
                hyperparameters.values |= row.settings
                self.oracle.trials[row.name] = Trial(
                    hyperparameters, row.name, "COMPLETED"
                )
        self._told = len(self._rows)
        missing = self.oracle.max_trials - len(self.oracle.trials)
        if missing > 0 or self.unfinished():
            raise ValueError(
                f"{self.directory} holds a search of version 0.1 that has not "
                "ended. Its trials can be read; what it needs to resume is in "
                "a pickle, which can run arbitrary code and is not opened. "
                "Expected trials="
                f"{self._told} or less, and none that runs. Received: "
                f"{missing} more, running: {self.unfinished()}. Use another "
                f"directory, or {AGAIN}."
            )

    def _write(self):
        content = {
            **self._is,
            "ahead": self.ahead,
            "keras_tuner": keras_tuner.__version__,
            "rows": [dataclasses.asdict(row) for row in self.rows()],
            "attempts": self._attempts,
            "untold": self._untold,
            "told": self._told,
            "files": self._files,
            "oracle": oracles.state_of(self.oracle),
        }
        content = json.loads(json.dumps(content))  # what is read back counts
        whole = {"sha256": fingerprint(content), "study": content}
        text = json.dumps(whole, indent=1) + "\n"
        write_atomically(self.directory / FILE, text)
