# SPDX-License-Identifier: Apache-2.0
"""CompressionStages: the stages of one `compress`, and their inputs."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from keras_kd.core.identity import identity_of_code
from keras_kd.core.passing_faults import is_passing
from keras_kd.core.progress import TrainingProgress
from keras_kd.core.progress import say
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.data.splits import Data
from keras_kd.data.splits import take
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.export import export
from keras_kd.pruning import prune
from keras_kd.training.settings_json import as_json
from keras_kd.training.task_of import task_of
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.teacher_targets import say_unseen
from keras_kd.training.teacher_targets import targets_folder
from keras_kd.training.trainer import train
from keras_kd.training.value_checks import check_labels


class CompressionStages:
    """The stages of one compression, each kept once it is finished.

    Every method returns the record of its stage, from disk if nothing that
    the stage depends on has changed.

    Args:
        teacher: See `compress`.
        build_student: See `compress`.
        data: See `compress`.
        directory: See `compress`.
        training: `epochs`, `batch_size`, `learning_rate` and `loss`.
        distilling: `temperature`, `alpha` and `distillation_losses`.
        verbose: See `compress`.
        task: See `compress`.
        headline: See `compress`.

    Raises:
        ValueError: If the task is not given and not certain.
    """

    def __init__(
        self,
        teacher: Any,
        build_student: Callable[[], keras.Model],
        data: Data,
        directory: pathlib.Path,
        training: dict[str, Any],
        distilling: dict[str, Any],
        verbose: int = 1,
        task: Any = None,
        headline: str | None = None,
    ):
        student, loss = build_student(), training["loss"]
        self.task = task_of(task, headline, student, data, loss)
        check_labels(data, student, loss or self.task.label_loss(student))
        self.build_student = build_student
        self.data = data
        self.directory = directory
        self.training = training
        self.distilling = distilling
        self.verbose = verbose
        self.say = functools.partial(say, verbose=verbose)
        self.folder = StageFolder(directory / "stages", say=self.say)
        self.teacher_targets = TeacherTargets(
            teacher,
            data,
            distilling["distillation_losses"],
            directory=targets_folder(self.folder.directory),
            verbose=verbose,
        )
        self.evaluator = Evaluator(
            self.teacher_targets.teacher, data, self.task
        )
        # What a training depends on. The control's also names the teacher:
        # its metrics hold the agreement with it. Finished runs hold a digest
        # of these keys ("lesson": teacher and data), so they keep their names.
        self.common = {
            "lesson": self.teacher_targets.fingerprint,
            "student": fingerprint_of_builder(build_student),
            **as_json(training),
        }
        code = self._code([training, task], "a loss, schedule or task")
        if code is not None:
            self.common["code"] = code
        if task is not None:
            # What is inferred follows from the rest.
            self.common["task"] = repr(self.task)

    @property
    def label_loss(self) -> Any:
        """The loss on the labels that was given, or the task's."""
        given = self.training["loss"]
        if given is not None:
            return given
        return self.task.label_loss(self.build_student())

    @property
    def taught(self) -> dict[str, Any]:
        """What a training from the teacher depends on."""
        taught = {**self.common, **as_json(self.distilling)}
        code = self._code(self.distilling, "a distillation loss")
        return taught if code is None else {**taught, "lesson_code": code}

    def _code(self, settings, where):
        unseen: list[str] = []
        code = identity_of_code(settings, unseen)
        say_unseen(unseen, where, self.verbose)
        return code

    def teacher(self) -> StageRecord:
        judged = [k for k in ("lesson", "task", "code") if k in self.common]
        return self.folder.run(
            "teacher",
            [self.common[k] for k in judged]
            if "task" in judged
            else self.common["lesson"],
            lambda: (None, self.evaluator.teacher_record()),
        )

    def search(self, trials: int, seed: int) -> str:
        """Looks for a better temperature and alpha, and takes them.

        Returns:
            A sentence on what was found.
        """
        # KerasTuner takes a while to import.
        from keras_kd.tuning.display.formatting import settings_text
        from keras_kd.tuning.search import search
        from keras_kd.tuning.trials.trial_record import shown

        losses = self.distilling["distillation_losses"]
        result = search(
            self.teacher_targets,
            self.build_student,
            self.data,
            trials,
            self.directory / "search",
            distillation_losses=losses,
            seed=seed,
            control=False,  # the run has its own
            confirm=0,
            verbose=self.verbose,
            **self.training,
        )
        self.distilling = {**self.distilling, **result.best_settings}
        if losses is not None:
            self.distilling["temperature"] = None
        settings = settings_text(shown(result.best_hyperparameters))
        return (
            f"A search of {len(result.rows)} trials with seed {seed} chose "
            f"{settings} by the validation split (search/search.html)."
        )

    def control(self, seed: int) -> StageRecord:
        return self._trained("control", seed, self.common, dict)

    def student(self, seed: int) -> StageRecord:
        return self._trained(
            "student",
            seed,
            self.taught,
            lambda: {**self.distilling, **self.teacher_targets.for_training()},
        )

    def _trained(self, kind, seed, depends_on, distilling):
        def make():
            title = f"{kind}, seed {seed}"
            model, facts = train(
                self.build_student,
                self.data,
                title=title if self.verbose else None,
                seed=seed,
                task=self.task,
                **self.training,
                **distilling(),
            )
            seconds = facts.pop("seconds")
            facts.pop("history")
            metrics = {**self.evaluator.measure(model), **facts}
            settings = {"seed": seed, **as_json(self.training)}
            if kind == "student":
                settings |= as_json(self.distilling)
            return model, StageRecord(
                kind, kind, settings, metrics, seconds=seconds
            )

        return self.folder.run(
            f"{kind}-{seed}", {**depends_on, "seed": seed}, make
        )

    def pruned(
        self, student: StageRecord, sparsity: float, epochs: int
    ) -> StageRecord:
        def make():
            self.say(f"pruning to {sparsity:.0%} zeros, {epochs} epochs")
            data, teacher = self.teacher_targets.for_pruning(
                self.training["batch_size"]
            )
            bar = [TrainingProgress("pruned", "sparsity")]
            model, record = prune(
                self.folder.model(student),
                data,
                sparsity=sparsity,
                teacher=teacher,
                callbacks=bar if self.verbose else [],
                seed=student.settings["seed"],
                **{**self.training, "epochs": epochs, "loss": self.label_loss},
                **self.distilling,
            )
            record.metrics |= self.evaluator.measure(model)
            return model, record

        depends_on = {
            "sparsity": sparsity,
            "epochs": epochs,
            "taught": self.taught,
            "model": _sha256(student),
        }
        return self.folder.run("pruned", depends_on, make)

    def export(self, student: StageRecord, formats, quantize) -> StageRecord:
        def make():
            record = export(
                self.folder.model(student),
                self.directory.parent,
                name=self.directory.name,
                formats=formats,
                quantize=quantize,
                inputs=take(self.data.train, 256),
                calibration=self.data if quantize else None,
                verbose=self.verbose,
            )
            # Stages look for their files from where their records are.
            record.artefacts = {
                os.path.relpath(
                    self.directory.parent / path, self.folder.directory
                ): digest
                for path, digest in record.artefacts.items()
            }
            return None, record

        depends_on = {"formats": list(formats), "quantize": quantize}
        depends_on["model"] = _sha256(student)
        return self.folder.run("export", depends_on, make)

    def teacher_file(self) -> StageRecord | None:
        """Converts the teacher for LiteRT, to compare the .tflite files with.

        The file stays among the stages. Its record has no artefact, but says
        what was `refused`, if the teacher does not convert.

        Returns:
            The record; `None` if the teacher is no model of its own.
        """
        model = self.evaluator.teacher_model()
        if model is None:
            return None

        def make():
            self.say("converting the teacher for LiteRT, to compare with")
            try:
                return None, export(
                    model,
                    self.folder.directory,
                    name="teacher",
                    formats="tflite",
                    inputs=take(self.data.train, 256),
                    verbose=0,
                )
            # Of any kind: the run does without the comparison. A full disk is
            # no refusal, and would be one for ever.
            except Exception as error:
                if is_passing(error):
                    raise
                refused = {"refused": str(error)}
                return None, StageRecord("export", "teacher", metrics=refused)

        return self.folder.run("teacher-tflite", self.common["lesson"], make)


def _sha256(record):
    (digest,) = record.artefacts.values()
    return digest
