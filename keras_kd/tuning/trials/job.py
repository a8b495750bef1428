# SPDX-License-Identifier: Apache-2.0
"""Job: all that a process needs to run trials of one search."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
import tensorflow as tf

from keras_kd.core.keras_settings import current_settings
from keras_kd.core.model_inputs import check_takes_all
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.distillers.steps_together import steps_together
from keras_kd.targets.cache import TeacherCache
from keras_kd.training import trainer
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.fit_arguments import steps_per_epoch
from keras_kd.training.task_of import JudgeEpochs
from keras_kd.training.task_of import headline_of
from keras_kd.tuning.space.hyper_distiller import HyperDistiller


@dataclasses.dataclass(frozen=True)
class Job:
    """What is searched, and on what data; see `search` for the other fields.

    Args:
        teaching: The arguments of `train` that bring the teaching.
        space: Arguments of `HyperDistiller` that say what is searched.
        keep_all: Whether the weights of each trial are kept, to go on from.
        keras_settings: See `core.keras_settings`.
    """

    directory: pathlib.Path
    build_student: Callable
    data: Data
    teaching: dict[str, Any]
    space: dict[str, Any]
    objective: keras_tuner.Objective
    epochs: int
    batch_size: int
    seed: int
    median_stopping: bool
    keep_all: bool
    keras_settings: dict[str, Any] = dataclasses.field(
        default_factory=current_settings
    )

    def train_arguments(self) -> dict[str, Any]:
        """Returns the arguments of `fit` that bring the training split.

        Anew for each trial: a shuffled data set goes on where it was left,
        and each trial is to see the same order.
        """
        return fit_arguments(
            self.data.train,
            self.batch_size,
            self.seed,
            **{k: v for k, v in self.teaching.items() if k != "teacher"},
        )

    def unused(self) -> Job:
        """Returns the same job, without what was made or read for it here."""
        teaching = dict(self.teaching)
        if "cache" in teaching:
            teaching["cache"] = TeacherCache.open(teaching["cache"].directory)
        return dataclasses.replace(self, teaching=teaching)

    @functools.cached_property
    def hyper(self) -> HyperDistiller:
        """Builds and trains the trials of this process."""
        steps = steps_per_epoch(self.train_arguments())
        return HyperDistiller(
            self.teaching.get("teacher"),
            self.build_student,
            steps=self.epochs * steps,
            steps_per_execution=steps_together(
                steps, tf.distribute.get_strategy()
            ),
            **self.space,
        )

    @property
    def watch(self) -> tuple[str, str]:
        """The metric that is compared, and its direction."""
        return self.objective.name, self.objective.direction

    def student(
        self, hp: keras_tuner.HyperParameters | None = None
    ) -> keras.Model:
        """Returns a new student, as it is without a search if `hp` is not."""
        return self.hyper.build_student(hp or keras_tuner.HyperParameters())

    def settings(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Returns what `train` takes for a control as for a student."""
        rate = self.hyper.value(hp, "learning_rate")
        names = "loss", "metrics", "task"
        given = {name: self.space[name] for name in names}
        return {"learning_rate": rate, **given}

    @property
    def judging(self) -> list[keras.callbacks.Callback]:
        """What logs the objective, where no metric does."""
        task, metrics = self.space["task"], self.space["metrics"]
        if task is None or self.objective.name != f"val_{task.headline.name}":
            return []
        student = self.student()
        if metrics is None:
            metrics = task.metrics(student)
        if task.headline.name in trainer.names_of(metrics, student):
            return []
        return [JudgeEpochs(task, self.data.validation)]

    def measured(self, student: keras.Model, split: Split) -> float:
        """Returns the objective on a split."""
        if self.judging:
            return headline_of(self.space["task"], student, split)
        loss, metrics = self.hyper.loss_and_metrics(student)
        student.compile(loss=loss, metrics=metrics)
        parts = split if isinstance(split, tuple) else (split,)
        check_takes_all(student, parts[0])
        found = student.evaluate(*parts, verbose=0, return_dict=True)
        return found[self.objective.name.removeprefix("val_")]

    def train(
        self, hp: keras_tuner.HyperParameters, data: Data, **options: Any
    ) -> tuple[keras.Model, dict]:
        """Trains a student as `compress` does; a control, if nobody teaches."""
        return trainer.train(
            lambda: self.student(hp),
            data,
            epochs=self.epochs,
            batch_size=self.batch_size,
            watch=self.watch,
            **options,
        )
