# SPDX-License-Identifier: Apache-2.0
"""CompressionStages: the stages of one `compress`, and their inputs."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from keras_kd.core.identity import identity_of_code
from keras_kd.core.progress import TrainingProgress
from keras_kd.core.progress import say
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder
from keras_kd.core.stage_cache import fingerprint_of_builder
from keras_kd.data.masks import with_labels_of
from keras_kd.data.masks import with_masked
from keras_kd.data.splits import Data
from keras_kd.engines import Engine
from keras_kd.evaluation.evaluator import Evaluator
from keras_kd.pruning import prune
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.settings_json import as_json
from keras_kd.training.task_of import task_of
from keras_kd.training.task_of import with_losses_of
from keras_kd.training.task_of import written
from keras_kd.training.teacher_targets import TeacherTargets
from keras_kd.training.teacher_targets import say_unseen
from keras_kd.training.teacher_targets import targets_folder
from keras_kd.training.trainer import has_missing


class CompressionStages:
    """The stages of one compression, each kept once it is finished.

    Every method returns the record of its stage, from disk if nothing that
    the stage depends on has changed.

    Args:
        teacher: See `compress`.
        build_student: See `compress`.
        data: See `compress`.
        directory: See `compress`.
        training: Arguments of `train` that control and student share.
        distilling: `temperature`, `alpha` and `distillation_losses`.
        verbose: See `compress`.
        task: See `compress`.
        headline: See `compress`.
        files: `data` as the exported files take it; `None`: as models do.

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
        files: Data | None = None,
    ):
        student, loss = build_student(), training["loss"]
        self.given_task, self.headline = task, headline
        self.task = task_of(task, headline, student, data, loss)
        # The loss on the labels that was given, or the task's.
        self.label_loss = (
            self.task.label_loss(student) if loss is None else loss
        )
        distilling = with_losses_of(self.task, distilling)
        self.build_student = build_student
        masked = with_masked(data, student)
        if files is None or files is data:
            files = masked
        elif masked is not data:
            files = with_labels_of(files, masked)
        self.data = data = masked
        self.files = files
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
            augment=training.get("augment"),
        )
        self.evaluator = Evaluator(
            self.teacher_targets.teacher, data, self.task, self.files
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
            self.common["task"] = written(self.task)

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

    def search(self, trials: int, seed: int, engine: Engine) -> str:
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
            task=self.given_task,
            headline=self.headline,
            verbose=self.verbose,
            engine=engine,
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

    def pruned(
        self, student: StageRecord, sparsity: float, epochs: int
    ) -> StageRecord:
        """Prunes a student, while its teacher goes on teaching."""
        return self._pruned(
            "pruned",
            student,
            {"sparsity": sparsity, "epochs": epochs, "taught": self.taught},
            lambda: self.teacher_targets.for_pruning(
                self.training["batch_size"]
            ),
        )

    def pruned_control(
        self, control: StageRecord, sparsity: float, epochs: int
    ) -> StageRecord:
        """Prunes a control in as many steps, by the labels alone."""

        def untaught():
            labelled = fit_arguments(
                self.data.train,
                self.training["batch_size"],
                seed=0,
                labelled_only=has_missing(self.label_loss),
                augment=self.training.get("augment"),
            )
            train = labelled["x"]
            if "steps_per_epoch" in labelled:  # repeated without end
                train = train.take(labelled["steps_per_epoch"])
            elif "y" in labelled:
                train = self.data.train
            return dataclasses.replace(self.data, train=train), None

        # Apart: the epochs of the training are not those of pruning.
        depends_on = {
            "sparsity": sparsity,
            "epochs": epochs,
            "training": self.common,
        }
        return self._pruned("pruned control", control, depends_on, untaught)

    def _pruned(self, name, source, depends_on, data_and_teacher):
        settings = {
            "sparsity": depends_on["sparsity"],
            "epochs": depends_on["epochs"],
            "batch_size": self.training["batch_size"],
            "learning_rate": self.training["learning_rate"],
            "loss": self.label_loss,
            "loss_weights": self.training.get("loss_weights"),
        }

        def make():
            self.say(
                f"{name}: to {settings['sparsity']:.0%} zeros in "
                f"{settings['epochs']} epochs"
            )
            # A data set that shuffles takes its order from it, so that a run
            # that goes on has the order of one that was never stopped.
            keras.utils.set_random_seed(source.settings["seed"])
            data, teacher = data_and_teacher()
            bar = [TrainingProgress(name, "sparsity")]
            model, record = prune(
                self.folder.model(source),
                data,
                teacher=teacher,
                callbacks=bar if self.verbose else [],
                seed=source.settings["seed"],
                **settings,
                **self.distilling,
            )
            record.metrics |= self.evaluator.measure(model)
            record.name = name
            if source.stage == "control":
                record.stage = "control"
            return model, record

        depends_on = {**depends_on, "model": sha256_of(source)}
        return self.folder.run(name.replace(" ", "-"), depends_on, make)


def sha256_of(record: StageRecord) -> str:
    """Returns the sha256 of the one file of a record."""
    (digest,) = record.artefacts.values()
    return digest
