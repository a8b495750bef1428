# SPDX-License-Identifier: Apache-2.0
"""SearchResult: what a search has found, and how sure that is."""

from __future__ import annotations

import functools
from typing import Any

import keras
import keras_tuner

from keras_kd.core.printable import printable
from keras_kd.core.records import write_atomically
from keras_kd.tuning.display import formatting
from keras_kd.tuning.display import page
from keras_kd.tuning.display import picture
from keras_kd.tuning.display import table
from keras_kd.tuning.display.importance import importance
from keras_kd.tuning.trials.confirmed import Confirmed
from keras_kd.tuning.trials.job import Job
from keras_kd.tuning.trials.study import Study
from keras_kd.tuning.trials.trial import model_path
from keras_kd.tuning.trials.trial_record import FAILED
from keras_kd.tuning.trials.trial_record import STOPPED
from keras_kd.tuning.trials.trial_record import TrialRecord
from keras_kd.tuning.trials.trial_record import best_of


class SearchResult:
    """What `search` returns.

    Attributes:
        rows: All trials, as a list of `TrialRecord`.
        confirmed: The best settings with fresh seeds beside the defaults and
            the control (`Confirmed`); `None` if that was not asked for.
    """

    def __init__(self, job: Job, study: Study):
        self.rows: list[TrialRecord] = study.rows()
        self.confirmed: Confirmed | None = None
        self.directory = job.directory
        self.objective = job.objective
        self._job = job
        self._study = study

    @property
    def best(self) -> TrialRecord | None:
        """The best trial; `None` if none has a value."""
        return best_of(self.rows, self.objective.direction)

    @property
    def best_hyperparameters(self) -> keras_tuner.HyperParameters:
        """The best trial's settings, as KerasTuner holds them."""
        if self.best is None:
            raise ValueError(
                "No trial of this search has a value. Look at `rows` for the "
                "messages of those that failed."
            )
        return self._study.hyperparameters(self.best.name)

    @property
    def best_settings(self) -> dict[str, Any]:
        """Arguments of `compress` and `Distiller` that were found best.

        `temperature` and `alpha`, or `distillation_losses` where those were
        given; `learning_rate` where it was searched.
        """
        hp, value = self.best_hyperparameters, self._job.hyper.value
        settings = {"alpha": value(hp, "alpha")}
        losses = self._job.hyper.losses(hp)
        if self._job.space["distillation_losses"] is not None:
            settings["distillation_losses"] = losses
        elif any(hasattr(loss, "temperature") for loss in losses):
            settings["temperature"] = value(hp, "temperature")
        if not isinstance(self._job.space["learning_rate"], (int, float)):
            settings["learning_rate"] = value(hp, "learning_rate")
        return settings

    def build_student(self) -> keras.Model:
        """Returns a new, untrained student of the best architecture."""
        return self._job.student(self.best_hyperparameters)

    @functools.cached_property
    def best_model(self) -> keras.Model:
        """The student of the best trial, trained."""
        path = model_path(self.directory, self.best.name)
        return keras.saving.load_model(self._study.sound(path), compile=False)

    @property
    def table(self) -> str:
        """All trials as a Markdown table."""
        name, direction = self.objective.name, self.objective.direction
        return table.to_markdown(self.rows, name, direction)

    def save(self) -> None:
        """Writes the page and the picture into the search's folder."""
        shown = (
            self.rows,
            self.objective.name,
            self.objective.direction,
            self.confirmed,
            importance(self.rows),
        )
        image = picture.render(*shown)
        write_atomically(self.directory / "search.png", image)
        text = page.render(*shown, image)
        write_atomically(self.directory / "search.html", text)

    def __str__(self):
        lines = [self.table, ""]
        if self.best is None:
            return "\n".join([*lines, "No trial of this search has a value."])
        settings = formatting.settings_text(self.best.settings)
        stopped = sum(row.status == STOPPED for row in self.rows)
        failed = sum(row.status == FAILED for row in self.rows)
        lines.append(
            f"Best: trial {self.best.name}, {settings}. {len(self.rows)} "
            f"trials, {stopped} stopped early, {failed} failed."
        )
        lines.append(
            str(self.confirmed)
            if self.confirmed
            else "The best of many trials is partly luck: no fresh seeds were "
            "run (confirm=0)."
        )
        return printable("\n".join(lines))
