# SPDX-License-Identifier: Apache-2.0
"""Evaluator: measures a run's models and files beside their teacher."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.records import StageRecord
from keras_kd.core.type_aliases import Split
from keras_kd.data.parts import labels_of
from keras_kd.data.parts import take
from keras_kd.data.parts import weights_of
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_dataset
from keras_kd.evaluation.disagreements import Disagreements
from keras_kd.evaluation.disagreements import find_disagreements
from keras_kd.evaluation.disagreements import inputs_at
from keras_kd.evaluation.gain import ACCURACY
from keras_kd.evaluation.latency import as_metrics
from keras_kd.evaluation.latency import latency
from keras_kd.evaluation.measure import measure
from keras_kd.evaluation.measure import run_over
from keras_kd.evaluation.runtimes import load_runner
from keras_kd.targets.attached import outputs_of
from keras_kd.tasks.base import Task
from keras_kd.tasks.classification import Classification
from keras_kd.tasks.composite import Composite
from keras_kd.tasks.composite import parts_for
from keras_kd.tasks.inferring import infer_output
from keras_kd.teachers.base import Teacher


class Evaluator:
    """Measures on the test split; the teacher is run over it once.

    Args:
        teacher: Whom students are compared with.
        data: Its validation and test splits are used.
        task: What outputs and labels mean; `None` infers it.
        files: The splits as files take them, where these preprocess; `None`
            for `data`.
    """

    def __init__(
        self,
        teacher: Teacher,
        data: Data,
        task: Task | None = None,
        files: Data | None = None,
    ):
        self.teacher = teacher
        self.data = data
        self.task = task
        self.files = data if files is None else files

    @functools.cached_property
    def test_answers(self) -> dict:
        """The teacher's answers to the test split, as a meter takes them."""
        return self._answers(self.data.test)

    def without_teacher(self) -> Evaluator:
        """Returns one that measures alike, for another process.

        It has the answers to the test split, and no teacher.
        """
        self.test_answers  # noqa: B018 (asks the teacher, once)
        other = copy.copy(self)
        other.teacher = None  # type: ignore[assignment]
        return other

    def _answers(self, split):
        names = list(self.task.tasks) if self._is_composite else None
        model = self.teacher_model()
        if names is None and len(getattr(model, "outputs", None) or []) > 1:
            # A task that reads several outputs itself takes them as they are.
            batches = as_dataset(split).as_numpy_iterator()
            answers = list(map(load_runner(model), (x for x, *_ in batches)))
            return tf.nest.map_structure(lambda *a: np.concatenate(a), *answers)
        found = outputs_of(self.teacher, split, verbose=False, names=names)
        if names is None:
            return {"logits": found}
        return {name: {"logits": part} for name, part in found.items()}

    @property
    def _is_composite(self):
        return isinstance(self.task, Composite)

    def measure(self, model_or_path: keras.Model | pathlib.Path) -> dict:
        """Measures on the test split, except for the latency."""
        is_model = isinstance(model_or_path, keras.Model)
        found = measure(
            model_or_path,
            self.data if is_model else self.files,
            task=self.task,
            teacher_predictions=self.test_answers,
            latency=False,
        )
        return self._with_headline(found)

    def latencies(self, models: dict, files: dict) -> dict[str, dict]:
        """Times models and files side by side on test inputs."""
        raw = take(self.files.test, 32)
        times = latency(
            models | files,
            take(self.data.test, 32),
            own_inputs=dict.fromkeys(files, raw),
        )
        return {name: as_metrics(time) for name, time in times.items()}

    def disagreements(
        self, path: pathlib.Path, name: str
    ) -> Disagreements | None:
        """Finds test examples that a file decides unlike the teacher.

        `None` where the task is not about one class for each example.
        """
        if not isinstance(self.task, (Classification, type(None))):
            return None
        outputs, labels = run_over(
            load_runner(path, threads=os.cpu_count() or 1),
            as_dataset(self.files.test),
        )
        return find_disagreements(
            self.files.test,
            labels,
            self.test_answers["logits"],
            outputs,
            name,
            self.data.class_names,
        )

    def examples(self, path: pathlib.Path, count: int) -> list[tuple]:
        """Returns test examples, as `Task.draw` takes them, for a file.

        They are spread evenly over the split. None of a classification, whose
        `disagreements` are told instead.

        Returns:
            `(x, label, teacher's outputs, file's outputs)` of each.
        """
        if isinstance(self.task, (Classification, type(None))):
            return []
        labels = labels_of(self.data.test)
        total = len(tf.nest.flatten(labels)[0])
        numbers = np.unique(np.linspace(0, total - 1, count).astype(int))
        x = inputs_at(self.files.test, numbers)
        found = load_runner(path)(x)
        theirs = self.test_answers
        return [
            (_row(x, at), _row(labels, n), _row(theirs, n), _row(found, at))
            for at, n in enumerate(numbers)
        ]

    def teacher_model(self) -> keras.Model | None:
        """The teacher as a model of the student's inputs, if it is one."""
        has_preprocess = getattr(self.teacher, "preprocess", None) is not None
        return None if has_preprocess else getattr(self.teacher, "model", None)

    def teacher_record(self) -> StageRecord:
        """Measures the teacher itself."""
        validation = self._answers(self.data.validation)
        on_validation = self._judge(validation, self.data.validation)
        metrics = {f"val_{name}": v for name, v in on_validation.items()}
        if (model := self.teacher_model()) is not None:
            metrics |= self.measure(model)
        else:
            metrics |= self._judge(self.test_answers, self.data.test)
        metrics = self._with_headline(metrics)
        return StageRecord("teacher", "teacher", metrics=metrics)

    def _with_headline(self, metrics: dict) -> dict:
        """Says beside figures what they are judged by; accuracy goes unsaid."""
        if self.task is None or self.task.headline == ACCURACY:
            return metrics
        names = self.data.class_names
        return {
            **metrics,
            **({"class_names": list(names)} if names else {}),
            "headline": dataclasses.asdict(self.task.headline),
            "agreement_is": dataclasses.asdict(self.task.agreement),
        }

    def _check_finite(self, answers, split):
        for scores in keras.tree.flatten(answers):
            good = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
            if not good.all():
                row = int(np.argmin(good))
                name = "test" if split is self.data.test else "validation"
                raise ValueError(
                    "The teacher's answers must be finite. Received: NaN or "
                    f"infinity for example {row} of `{name}`. Look for NaN in "
                    "that input, and at the teacher's weights."
                )

    def _judge(self, answers: dict, split: Split) -> dict:
        """Judges the teacher's answers to a split."""
        self._check_finite(answers, split)
        labels, task = labels_of(split), self.task
        if task is None:
            task = infer_output("linear", answers["logits"].shape, labels)
        meter = task.meter()
        weights = parts_for(task, weights_of(split))
        labels = parts_for(task, labels)
        meter.update(answers, labels, sample_weight=weights)
        return meter.result()


def _row(parts, number):
    return tf.nest.map_structure(lambda part: part[number], parts)
