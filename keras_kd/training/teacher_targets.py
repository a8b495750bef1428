# SPDX-License-Identifier: Apache-2.0
"""TeacherTargets: one teacher's answers to one data set, for every student."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd import teachers
from keras_kd.core.checksummed_json import DamagedFileError
from keras_kd.core.checksummed_json import read_checksummed
from keras_kd.core.checksummed_json import write_checksummed
from keras_kd.core.identity import identity
from keras_kd.core.progress import say
from keras_kd.core.stage_cache import fingerprint
from keras_kd.core.stage_cache import fingerprint_of_split
from keras_kd.core.type_aliases import DataLike
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_data
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.attached import outputs_of
from keras_kd.targets.attached import target_of
from keras_kd.targets.cache import TeacherCache
from keras_kd.training.fit_arguments import fit_arguments
from keras_kd.training.trainer import copies_of

MANIFEST = "made_here.json"
_OWN_FOLDER = re.compile("[0-9a-f]{16}")


def targets_folder(parent: pathlib.Path) -> pathlib.Path:
    """Returns where a run or search keeps its teacher's answers.

    `labels/` where a version up to 0.1 has begun, else `targets/`.
    """
    old = parent / "labels"
    return old if old.is_dir() else parent / "targets"


def say_unseen(unseen: list[str], where: str, verbose: int = 1) -> None:
    """Says what `identity` could not see into, and what to do about it."""
    if unseen:
        say(
            f"cannot see into {', '.join(dict.fromkeys(unseen))} of {where}: "
            "whether it has changed is not known, so all that depends on it is "
            "done again. Pass identity='a name and version', or give the "
            "object or function that holds it an attribute of that name.",
            verbose,
        )


class TeacherTargets:
    """A teacher, the data it teaches on, and what it answered to them.

    The teacher is run once over the training split, when a student first
    needs its targets: several students, seeds and the pruning learn from the
    same stored answers. That needs a training split of arrays, whose samples
    are the same in each epoch, and a teacher that does not change; otherwise
    the teacher runs beside the student.

    Args:
        teacher: A trained `keras.Model` or a `Teacher`.
        data: The splits.
        distillation_losses: See `Distiller`.
        directory: Folder for the teacher's answers (`TeacherCache`), so that
            a run that goes on does not ask again. `None`: they are kept in
            memory, and only the output is.
        verbose: 0 prints nothing.
        augment: See `augmented`: the teacher then sees what the student does,
            and answers in each step.
    """

    def __init__(
        self,
        teacher: Any,
        data: DataLike,
        distillation_losses=None,
        directory: pathlib.Path | None = None,
        verbose: int = 1,
        augment: Callable | None = None,
    ):
        self.augment = augment
        self.teacher = teachers.get(teacher)
        if self.teacher is None:
            raise ValueError(
                "`teacher` must be a trained keras.Model or a "
                "keras_kd.teachers.Teacher. Received: None"
            )
        self.data = data = as_data(data)
        losses = copies_of(distillation_losses) or []
        taps = {tap for loss in losses for tap in loss.taps[0]}
        self.taps = tuple(sorted(taps)) or ("output",)
        # Of one that ranks items, all scores: it may have to know those that
        # are left out.
        self.takes_sparse = all(
            loss.accepts_sparse and loss.logits
            for loss in losses
            if "output" in loss.taps[0]
        )
        self.directory = directory
        self.verbose = verbose
        is_fixed = not isinstance(data.train, tf.data.Dataset)
        # Logits alone are small. Features stay on the disk, and so does the
        # number of each sample, for losses that ask for it.
        self.in_memory = self.taps == ("output",) and not any(
            loss.index_aware for loss in losses
        )
        fits = directory is not None or self.in_memory
        self.runs_once = is_fixed and fits and self.teacher.can_be_stored
        self.runs_once = self.runs_once and augment is None
        self._cache: TeacherCache | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the teacher and with the content of the data."""
        name, unseen = self.data.identity, []
        splits = (self.data.train, self.data.validation, self.data.test)
        if name is None and any(isinstance(s, tf.data.Dataset) for s in splits):
            say(
                "data: reading the tf.data sets once, so that a later run "
                "recognises them. One that draws new examples each time "
                "never is; give Data(identity='a name and version') instead.",
                self.verbose,
            )
        # The test split may be the validation split: it is read once.
        distinct = {id(split): split for split in splits}
        found = {k: fingerprint_of_split(s, name) for k, s in distinct.items()}
        teacher = identity(self.teacher, unseen)
        say_unseen(unseen, "the teacher", self.verbose)
        return fingerprint([teacher, *(found[id(split)] for split in splits)])

    def store(self) -> TeacherCache:
        """Returns the answers to the training split, on disk.

        The first call runs the teacher, unless the folder holds its answers.
        It then removes those of a teacher or data that were replaced.
        """
        if self._cache is None:
            how = [] if self.takes_sparse else ["all classes"]
            name = fingerprint([self.fingerprint, list(self.taps), *how])[:16]
            say(
                "teacher: labelling the training split, once for all students "
                f"(kept in {self.directory.name}/)",
                self.verbose,
            )
            self._remove_others(name)
            self._cache = TeacherCache(
                self.directory / name,
                self.taps,
                dtype="float32",
                top_k="auto" if self.takes_sparse else None,
            ).build(self.teacher, self.data.train, verbose=self.verbose)
        return self._cache

    def for_training(self) -> dict[str, Any]:
        """Returns the arguments of `train` that bring the teaching."""
        if self.augment is not None:
            return {"teacher": self.teacher, "augment": self.augment}
        if not self.runs_once:
            return {"teacher": self.teacher}
        if self.in_memory:
            return {"targets": self._training_targets}
        return {"cache": self.store()}

    def for_pruning(self, batch_size: int) -> tuple[Data, Any]:
        """Returns `(data, teacher)` for `prune`."""
        if not self.runs_once:
            train = self.data.train
            if self.augment is not None:
                seen = fit_arguments(train, batch_size, 0, augment=self.augment)
                train = seen["x"]
            return dataclasses.replace(self.data, train=train), self.teacher
        if self.in_memory:
            x, *rest = self.data.train
            x = attach_targets(x, {"output": self._training_targets})
            train = (x, *rest)
        else:
            train = self.store().attach(
                self.data.train, batch_size, shuffle=True, seed=0
            )
        return dataclasses.replace(self.data, train=train), None

    @functools.cached_property
    def _training_targets(self) -> Any:
        if self.directory is not None:
            cache = self.store()
            fields = cache.read(range(len(cache)))["output"]
            target = cache.encodings["output"].target(fields)
            return tf.nest.map_structure(np.asarray, target)
        say("teacher: labelling the training split, once", self.verbose)
        found = outputs_of(self.teacher, self.data.train, verbose=self.verbose)
        return target_of(self.teacher, found)

    def _remove_others(self, name):
        """Only what the manifest names, and never through a link."""
        manifest = self.directory / MANIFEST
        try:
            made = read_checksummed(manifest)["folders"]
        except (FileNotFoundError, DamagedFileError):
            made = []
        for other in filter(_OWN_FOLDER.fullmatch, made):
            path = self.directory / other
            linked = path.is_symlink() or self.directory.is_symlink()
            if other != name and path.is_dir() and not linked:
                shutil.rmtree(path)
        if made != [name]:
            write_checksummed(manifest, {"folders": [name]})
