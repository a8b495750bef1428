# SPDX-License-Identifier: Apache-2.0
"""Lesson: one teacher and one data set, and what stages ask of the two."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import losses as losses_module
from keras_kd import teachers
from keras_kd.data import Data
from keras_kd.data import as_dataset
from keras_kd.data import labels_of
from keras_kd.data import take
from keras_kd.labels.attached import attach_targets
from keras_kd.labels.attached import outputs_of
from keras_kd.labels.cache import TeacherCache
from keras_kd.labels.identity import identity
from keras_kd.records import StageRecord
from keras_kd.report import latency
from keras_kd.report import measure
from keras_kd.report.disagreements import Disagreements
from keras_kd.report.disagreements import find_disagreements
from keras_kd.report.latency import as_metrics
from keras_kd.report.measure import run_over
from keras_kd.report.runtimes import load_runner
from keras_kd.report.scores import score
from keras_kd.stages import fingerprint
from keras_kd.stages import fingerprint_of_split


class Lesson:
    """A teacher and the data it teaches on.

    The teacher is run once over each split that needs it, when it is first
    asked for: several students, seeds and the pruning learn from the same
    stored answers. That needs a training split of arrays, whose samples are
    the same in each epoch, and a teacher that does not change; otherwise the
    teacher runs beside the student.

    Args:
        teacher: A trained `keras.Model` or a `Teacher`.
        data: The splits.
        distillation_losses: See `Distiller`.
        directory: Folder for the teacher's answers (`TeacherCache`), so that
            a run that goes on does not ask again. `None`: they are kept in
            memory, and only the output is.
    """

    def __init__(
        self,
        teacher: Any,
        data: Data,
        distillation_losses=None,
        directory: pathlib.Path | None = None,
    ):
        self.teacher = teachers.get(teacher)
        if self.teacher is None:
            raise ValueError(
                "`teacher` must be a trained keras.Model or a "
                "keras_kd.teachers.Teacher. Received: None"
            )
        self.data = data
        losses = distillation_losses or []
        if not isinstance(losses, (list, tuple)):
            losses = [losses]
        losses = list(map(losses_module.get, losses))
        taps = {tap for loss in losses for tap in loss.taps[0]}
        self.taps = tuple(sorted(taps)) or ("output",)
        self.directory = directory
        is_fixed = not isinstance(data.train, tf.data.Dataset)
        # Logits alone are small. Features stay on the disk, and so does the
        # number of each sample, for losses that ask for it.
        self.in_memory = self.taps == ("output",) and not any(
            loss.index_aware for loss in losses
        )
        fits = directory is not None or self.in_memory
        self.runs_once = is_fixed and fits and self.teacher.can_be_stored

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the teacher and with the data."""
        splits = (self.data.train, self.data.validation, self.data.test)
        return fingerprint(
            [
                identity(self.teacher),
                *(fingerprint_of_split(split) for split in splits),
            ]
        )

    @functools.cached_property
    def cache(self) -> TeacherCache:
        """The teacher's answers to the training split, on disk."""
        name = fingerprint([self.fingerprint, list(self.taps)])
        folder = self.directory / name[:16]
        print(
            "teacher: labelling the training split, once for all students "
            f"(kept in {self.directory.name}/)",
            flush=True,
        )
        for other in self.directory.glob("*"):
            if other != folder:  # of a teacher or data that were replaced
                shutil.rmtree(other)
        return TeacherCache(folder, self.taps, dtype="float32").build(
            self.teacher,
            self.data.train,
            # Not the fastest way: one seed has to give one student, whatever
            # the clock says.
            engine="keras",
        )

    @functools.cached_property
    def _training_logits(self) -> np.ndarray:
        if self.directory is None:
            print("teacher: labelling the training split, once", flush=True)
            return outputs_of(self.teacher, self.data.train)
        return self.cache.read(range(len(self.cache)))["output"]["values"]

    @functools.cached_property
    def _test_logits(self) -> np.ndarray:
        return outputs_of(self.teacher, self.data.test, verbose=False)

    def for_training(self) -> dict[str, Any]:
        """Returns the arguments of `train` that bring the teaching."""
        if not self.runs_once:
            return {"teacher": self.teacher}
        if self.in_memory:
            return {"targets": self._training_logits}
        return {"labels": self.cache}

    def for_pruning(self, batch_size: int) -> tuple[Data, Any]:
        """Returns `(data, teacher)` for `prune`."""
        if not self.runs_once:
            return self.data, self.teacher
        if self.in_memory:
            x, y = self.data.train
            train = attach_targets(x, {"output": self._training_logits}), y
        else:
            train = self.cache.attach(
                self.data.train, batch_size, shuffle=True, seed=0
            )
        return dataclasses.replace(self.data, train=train), None

    def measure(self, model_or_path: keras.Model | pathlib.Path) -> dict:
        """Measures on the test split, except for the latency."""
        return measure(
            model_or_path,
            self.data,
            teacher_predictions=self._test_logits,
            latency=False,
        )

    def latencies(self, artefacts: dict) -> dict[str, dict]:
        """Times artefacts side by side on test inputs."""
        times = latency(artefacts, take(self.data.test, 32))
        return {name: as_metrics(time) for name, time in times.items()}

    def disagreements(
        self, path: pathlib.Path, name: str
    ) -> Disagreements | None:
        """Finds test examples that a file decides unlike the teacher."""
        outputs, labels = run_over(
            load_runner(path, threads=os.cpu_count() or 1),
            as_dataset(self.data.test),
        )
        return find_disagreements(
            self.data.test,
            labels,
            self._test_logits,
            outputs,
            name,
            self.data.class_names,
        )

    def teacher_model(self) -> keras.Model | None:
        """The teacher as a model of the student's inputs, if it is one."""
        has_preprocess = getattr(self.teacher, "preprocess", None) is not None
        return None if has_preprocess else getattr(self.teacher, "model", None)

    def teacher_record(self) -> StageRecord:
        """Measures the teacher itself."""
        validation = outputs_of(
            self.teacher, self.data.validation, verbose=False
        )
        labels = labels_of(self.data.validation)
        on_validation = score({"logits": validation}, labels)
        metrics = {f"val_{name}": v for name, v in on_validation.items()}
        if (model := self.teacher_model()) is not None:
            metrics |= self.measure(model)
        else:
            metrics |= score(
                {"logits": self._test_logits}, labels_of(self.data.test)
            )
        return StageRecord("teacher", "teacher", metrics=metrics)
