# SPDX-License-Identifier: Apache-2.0
"""Job: all that a process needs to run trials of one search."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import functools
import importlib.machinery
import inspect
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import keras
import keras_tuner
import numpy as np
import tensorflow as tf

from keras_kd.core.records import write_atomically
from keras_kd.data.splits import Data
from keras_kd.targets.cache import TeacherCache
from keras_kd.training import trainer
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.fit_arguments import steps_per_epoch
from keras_kd.training.step_tuning import steps_together
from keras_kd.tuning.space.hyper_distiller import HyperDistiller

FILE = "job.pkl"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is searched, and on what data; see `search` for the other fields.

    Args:
        teacher: Runs beside the student; `None` where its answers are
            stored.
        cache: Folder of the teacher's answers, a `TeacherCache`.
        in_memory: Whether only logits are wanted of it, all at once.
        space: Arguments of `HyperDistiller` that say what is searched.
        keep_all: Whether the weights of each trial are kept, to go on from.
    """

    directory: pathlib.Path
    build_student: Callable
    data: Data
    teacher: Any
    cache: pathlib.Path | None
    in_memory: bool
    space: dict[str, Any]
    objective: keras_tuner.Objective
    epochs: int
    batch_size: int
    seed: int
    median_stopping: bool
    keep_all: bool

    @functools.cached_property
    def teaching(self) -> dict[str, Any]:
        """The arguments of `train` that bring the teaching."""
        if self.cache is None:
            return {"teacher": self.teacher}
        cache = TeacherCache.open(self.cache)
        if not self.in_memory:
            return {"cache": cache}
        values = cache.read(range(len(cache)))["output"]["values"]
        return {"targets": np.asarray(values)}

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
        given = {name: self.space[name] for name in ("loss", "metrics")}
        return {"learning_rate": rate, **given}

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

    def write(self) -> None:
        """Writes the job for other processes."""
        try:
            with contextlib.ExitStack() as stack:
                # Whole, if others cannot import them: those of a recipe
                # that was loaded from a file, for example.
                losses = self.space["distillation_losses"]
                functions = self.build_student, losses
                modules = set(map(inspect.getmodule, functions))
                for module in modules - {None}:
                    if not _is_importable(module.__name__):
                        cloudpickle.register_pickle_by_value(module)
                        stack.callback(
                            cloudpickle.unregister_pickle_by_value, module
                        )
                content = cloudpickle.dumps(self)
        except Exception as error:
            raise ValueError(
                "With several workers the data and functions are handed to "
                "other processes. Expected splits that are NumPy arrays and "
                "functions that use nothing tied to this process (no "
                f"tf.data.Dataset, no open file). Received: {error}. Pass "
                "arrays, or workers=1."
            ) from error
        # Two thirds of what gzip makes of images, and read as fast as needed.
        write_atomically(self.directory / FILE, bz2.compress(content, 1))

    @staticmethod
    def read(directory: str | os.PathLike) -> Job:
        """Reads the job that a search has written in this folder."""
        path = pathlib.Path(directory) / FILE
        try:
            job = cloudpickle.loads(bz2.decompress(path.read_bytes()))
        except FileNotFoundError:
            raise ValueError(
                f"{directory} holds no search for several workers. Expected "
                f"the directory of a running search with workers of more "
                "than 1."
            ) from None
        moved = pathlib.Path(directory).absolute()  # another machine's mount
        cache = job.cache and moved / job.cache.relative_to(job.directory)
        return dataclasses.replace(job, directory=moved, cache=cache)


def _is_importable(name):
    """Whether other processes find a module of this name."""
    # Asks the path: `importlib.util` believes what has been imported here.
    root = name.partition(".")[0]
    return (
        name == "__main__"  # written whole anyway
        or name in sys.builtin_module_names
        or importlib.machinery.PathFinder.find_spec(root) is not None
    )
