# SPDX-License-Identifier: Apache-2.0
"""Job: all that a process needs to run trials of one search."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import functools
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
    """What is searched, and on what data.

    Args:
        directory: Folder of the search.
        build_student: See `search`.
        data: Its training and validation splits.
        teacher: Runs beside the student; `None` where its answers are
            stored.
        cache: Folder of the teacher's answers, a `TeacherCache`.
        in_memory: Whether only logits are wanted of it, all at once.
        space: Arguments of `HyperDistiller` that say what is searched.
        objective: What is compared.
        epochs: Of a whole trial.
        batch_size: Examples in a step.
        seed: Of the initial weights and the shuffling: the same in all
            trials, so that they differ by their settings alone.
        stop_hopeless: See `search`.
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
    stop_hopeless: bool
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
        """Trains a student as `compress` does; a control, if nobody teaches.

        Args:
            hp: Tells its architecture.
            data: The splits.
            **options: Those of `trainer.train`.
        """
        return trainer.train(
            lambda: self.student(hp),
            data,
            epochs=self.epochs,
            batch_size=self.batch_size,
            watch=self.watch,
            **options,
        )

    def write(self) -> None:
        """Writes the job for other processes.

        Raises:
            ValueError: If it holds something that cannot be written.
        """
        try:
            with _whole_functions(
                self.build_student, self.space["distillation_losses"]
            ):
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
    def written_at(directory: str | os.PathLike) -> int:
        """Returns when the job of this folder was written; 0 if it was not.

        In nanoseconds: tells a job from the one that was there before.
        """
        with contextlib.suppress(FileNotFoundError):
            return os.stat(pathlib.Path(directory) / FILE).st_mtime_ns
        return 0

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


@contextlib.contextmanager
def _whole_functions(*values):
    """Has functions written whole whose module others could not import.

    A recipe that was loaded from a file, for example.
    """
    modules = []
    for value in values:
        module = inspect.getmodule(value)
        if module is not None and not _is_importable(module):
            cloudpickle.register_pickle_by_value(module)
            modules.append(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_importable(module):
    if module.__name__ == "__main__":
        return True  # written whole anyway
    # Known by its path: `find_spec` believes what has been imported.
    path = module.__name__.replace(".", os.sep)
    return (
        any(
            os.path.isfile(os.path.join(folder, path + ending))
            for folder in sys.path
            for ending in (".py", os.sep + "__init__.py")
        )
        or module.__name__ in sys.builtin_module_names
    )
