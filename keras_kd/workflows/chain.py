# SPDX-License-Identifier: Apache-2.0
"""Chain: students that are trained one after the other, on the same data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import keras

from keras_kd import teachers
from keras_kd.core.folders import check_folder
from keras_kd.core.identity import identity
from keras_kd.core.identity import identity_of_code
from keras_kd.core.progress import say
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.core.stage_cache import fingerprint_of_split
from keras_kd.core.type_aliases import DataLike
from keras_kd.data.splits import as_data
from keras_kd.distillers.value_checks import check_labels
from keras_kd.distillers.value_checks import check_values
from keras_kd.evaluation import measure
from keras_kd.training.settings_json import as_json
from keras_kd.training.task_of import task_of
from keras_kd.training.task_of import with_losses_of
from keras_kd.training.task_of import written
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.teacher_targets import say_unseen
from keras_kd.training.trainer import train
from keras_kd.training.trainer import validation_value


class Chain:
    """What the trainings of a chain have in common.

    Args:
        data: The splits.
        directory: Where each finished student is kept, so that a chain which
            was killed goes on from the last; `None`: nowhere.
        verbose: 0 prints nothing.
        **options: What `train` takes, and `task`, `headline`.

    Raises:
        ValueError, OSError: If `directory` cannot be written to.
    """

    def __init__(
        self,
        data: DataLike,
        directory: str | os.PathLike | None,
        verbose: int,
        **options: Any,
    ):
        self.folder: StageFolder | None = None
        if directory is not None:
            told = functools.partial(say, verbose=verbose)
            self.folder = StageFolder(check_folder(directory), say=told)
        self.data = as_data(data)
        self.verbose = verbose
        self.given_task = options.pop("task", None)
        self.headline = options.pop("headline", None)
        self.options = options

    def train(
        self, teacher: Any, build: Callable, key: str, title: str, seed: int
    ) -> tuple[keras.Model, StageRecord, float]:
        """Returns one student, its record, and its value on validation.

        Args:
            teacher: What teaches it; `None` for labels alone.
            build: Returns a new student.
            key: Name of its files.
            title: Its name in the record.
            seed: Of its weights and of the order of examples.
        """
        student, loss = build(), self.options.get("loss")
        check_values(self.data, student)
        given = self.given_task, self.headline
        task = task_of(*given, student, self.data, loss)
        check_labels(self.data, student, loss or task.label_loss(student))

        def make():
            return self._trained(teacher, build, title, seed, task)

        if self.folder is None:
            student, record = make()
        else:
            depends_on = self._depends_on(teacher, build, seed, task)
            record = self.folder.run(key, depends_on, make)
            # From the file, so that it is the same whoever has trained it.
            student = self.folder.model(record)
        value = validation_value(record.metrics, task.headline)
        return student, record, value

    def _trained(self, teacher, build, title, seed, task):
        options, taught = self.options, {}
        if teacher is not None:
            options = {"distillation_losses": None, **options}
            options = with_losses_of(task, options)
            losses = options["distillation_losses"]
            targets = TeacherTargets(
                teacher, self.data, losses, verbose=self.verbose
            )
            taught = targets.for_training()
        student, facts = train(
            build,
            self.data,
            title=title if self.verbose else None,
            seed=seed,
            task=task,
            **options,
            **taught,
        )
        seconds = facts.pop("seconds")
        facts.pop("history")
        measured = measure(student, self.data, task=task, latency=False)
        settings = {"seed": seed, "model": student.name, **as_json(options)}
        metrics = {**measured, **facts}
        return student, StageRecord(
            "student", title, settings, metrics, seconds=seconds
        )

    def _depends_on(self, teacher, build, seed, task):
        unseen: list[str] = []
        found = {
            "data": self._fingerprints,
            "teacher": identity(teachers.get(teacher), unseen),
            "student": fingerprint_of_builder(build),
            "task": written(task),
            "code": identity_of_code([self.options, self.given_task], unseen),
            "seed": seed,
            **as_json(self.options),
        }
        say_unseen(unseen, "the teacher, a loss or the task", self.verbose)
        return found

    @functools.cached_property
    def _fingerprints(self):
        splits = (self.data.train, self.data.validation, self.data.test)
        return [fingerprint_of_split(s, self.data.identity) for s in splits]
