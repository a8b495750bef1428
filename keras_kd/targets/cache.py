# SPDX-License-Identifier: Apache-2.0
"""TeacherCache: a teacher's answers on disk, found by content."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core.seals import reading
from keras_kd.core.type_aliases import Examples
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.engines import Engine
from keras_kd.targets.attach.attaching import attach
from keras_kd.targets.build.building import build
from keras_kd.targets.build.from_parquet import take_parquet
from keras_kd.targets.build.merging import merge
from keras_kd.targets.store import manifest as manifests
from keras_kd.targets.store.options import AUTO
from keras_kd.targets.store.options import Options
from keras_kd.targets.store.options import restore
from keras_kd.targets.store.reading import read_rows
from keras_kd.targets.store.shards import Shard


class TeacherCache:
    """A teacher's answers to a data set, asked once and kept on disk.

    Samples are known by a fingerprint of their content: the data may be
    shuffled or cut afterwards, and a target never meets another sample.

    Shards appear whole or not at all, each with its sha256, and the manifest
    last. A build that was killed resumes where it stopped.

    Args:
        directory: Folder of the cache.
        taps: What to ask the teacher for: `"output"`, and names of outputs
            or layers. A softmax or sigmoid is stored as its logits.
        dtype: `"float16"` or `"float32"`, for what is stored in full.
        top_k: Store the k likeliest classes of `"output"` and the mass of
            the others. `"auto"`: 64 from 1,000 classes on; `None`: store all.
        sampled: Store n classes of `"output"` drawn at random instead.
        temperature: T at which `sampled` draws.
        views: Number of augmented views of each sample.
        seed: Seed of the views and of what is drawn.
        shard_size: Samples in a shard, a bound on what a crash can lose.
        outputs: What the teacher's outputs are, where it cannot be read; see
            `kd.teachers.FrozenTeacher`.

    Raises:
        ValueError: If an argument is wrong, or `directory` holds a cache
            with other settings (see `TeacherCache.open`).

    Example:

    ```python
    cache = kd.TeacherCache("targets").build(teacher, (x, y))
    distiller = kd.Distiller(teacher=None, student=student)
    distiller.compile("adam", cross_entropy)
    distiller.fit(cache.attach((x, y), batch_size=16, shuffle=True))
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        taps: Sequence[str] = ("output",),
        dtype: str = "float16",
        top_k: int | str | None = AUTO,
        sampled: int | None = None,
        temperature: float = 1.0,
        views: int = 1,
        seed: int = 0,
        shard_size: int = 4096,
        outputs: str | dict | None = None,
    ):
        self.directory = pathlib.Path(directory)
        found = manifests.read_settings(self.directory)
        if found is not None and top_k == AUTO:
            top_k = found["top_k"]  # `None` in caches of before
        self.augment: Any = None
        taps = (taps,) if isinstance(taps, str) else tuple(taps)
        how = sampled, temperature, views, seed, shard_size, outputs
        self.options = Options(taps, dtype, top_k, *how)
        if found is not None:
            wanted = self.options.to_json()
            manifests.compare_settings(found, wanted, self.directory)

    @classmethod
    def open(cls, directory: str | os.PathLike) -> TeacherCache:
        """Returns the cache in a folder, with the settings it was made with.

        Raises:
            ValueError: If there is none.
        """
        found = manifests.read_settings(pathlib.Path(directory))
        if found is None:
            raise ValueError(
                f"{directory} holds no teacher cache: no {manifests.SETTINGS}. "
                "Make one: kd.TeacherCache(directory).build(teacher, dataset)."
            )
        known = set(Options().to_json()) & set(found)
        with reading(directory, "a cache of this version"):
            return cls(directory, **{key: found[key] for key in known})

    def build(
        self,
        teacher: TeacherLike,
        dataset: Examples,
        augment: Callable | None = None,
        batch_size: int = 256,
        part: tuple[int, int] | None = None,
        verbose: int = 1,
        agreement: float | None = None,
        engine: str | Engine | None = None,
    ) -> TeacherCache:
        """Labels a data set; what was labelled before is kept.

        The data set is read once and its size does not matter to memory.
        Call it again after a crash: shards that were finished are compared
        with the data set and not labelled again. The order must be the same
        each time, so shuffle after `attach`.

        Args:
            teacher: A trained `keras.Model`, a list of them, or a
                `keras_kd.teachers.Teacher`.
            dataset: Arrays `(x, y)` or `(x,)`, a batched `tf.data.Dataset`
                or a `keras.utils.PyDataset`. No label is stored.
            augment: Stateless function `(x, seed)` of one sample and an
                int32 tensor of shape `(2,)`.
            batch_size: Samples the teacher is given at a time.
            part: `(i, n)`: label only the i-th of n parts (from 0), each in
                a directory of its own; see `merge`. Each reads all the data.
            verbose: 0 prints nothing, else there is a progress bar.
            agreement: Share of samples on which a faster way to run the
                teacher, int8 arithmetic, must give the same class; it leaves
                close decisions to the teacher. `None`: its own call labels all.
            engine: Way to run the teacher: `"keras"`, `"litert-int8"`, or
                `None` for the faster one that `agreement` allows; or, to ask
                it in several processes, an engine of `kd.engines`.

        Returns:
            This cache.

        Raises:
            ValueError: If the settings, the teacher or the data are not
                those that this directory was begun with, or the teacher
                gives NaN or infinity: with the place of that sample.
        """
        how = batch_size, part, verbose, agreement, engine
        return self._build(teacher, dataset, augment, *how)

    def extend(
        self,
        teacher: TeacherLike,
        dataset: Examples,
        augment: Callable | None = None,
        batch_size: int = 256,
        verbose: int = 1,
    ) -> TeacherCache:
        """Labels the samples of a data set that the cache does not hold.

        Arguments are as for `build`, teacher and augmentation the same.

        Raises:
            ValueError: If the cache is not finished or is one of several
                parts, or the teacher or augmentation is another.
        """
        settings = self.manifest["settings"]
        if settings["part"] is not None:
            raise ValueError(
                f"{self.directory} is part {settings['part']} of a cache: "
                "merge the parts first."
            )
        how = batch_size, None, verbose, settings["agreement"], None
        return self._build(teacher, dataset, augment, *how, extend=True)

    def _build(self, teacher, dataset, augment, *how, extend=False):
        kept = self.directory, self.options, self.encodings
        build(*kept, teacher, dataset, augment, *how, extend=extend)
        self.augment = augment
        self.__dict__.pop("manifest", None)
        self.__dict__.pop("shards", None)
        return self

    @staticmethod
    def merge(
        directories: Sequence[str | os.PathLike], into: str | os.PathLike
    ) -> TeacherCache:
        """Returns one cache of all parts; see `targets.build.merging`."""
        merge(directories, into)
        return TeacherCache.open(into)

    @staticmethod
    def from_parquet(
        source: str | os.PathLike, into: str | os.PathLike
    ) -> TeacherCache:
        """Returns a cache of files that `kd.targets.label_with_ray` wrote."""
        take_parquet(source, into)
        return TeacherCache.open(into)

    def attach(
        self,
        data: Examples,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        augment: Callable | None = None,
    ) -> tf.data.Dataset:
        """Returns a data set that carries the targets of its samples.

        Samples are found by content in every batch, so `data` may be in any
        order, a part of what was labelled, or hold samples twice. With views,
        each sample shows another one in each epoch and all of them in as many
        epochs as there are views; the pixels are made again and compared with
        those that the teacher saw.

        Args:
            data: Arrays `x`, `(x, y)` or `(x, y, sample_weight)`; a batched
                `tf.data.Dataset` or a `keras.utils.PyDataset` that yields
                the same.
            batch_size: For arrays: samples in a batch. `None`: single
                samples, to shuffle and batch as you like.
            shuffle: For arrays: whether to shuffle all in each epoch.
            seed: Seed of the shuffling.
            augment: The augmentation that the cache was built with, where
                that was in another process.

        Returns:
            `tf.data.Dataset` of `({"inputs": x, "teacher_targets": {tap:
            target}}, y, sample_weight)`, as `Distiller.fit` takes it. Among
            the targets, `"sample_index"` is the row of the sample in the
            cache. In a stream, a sample that is not in the cache ends the
            epoch with an error that says which.

        Raises:
            ValueError: If the data cannot be read like that, a file of the
                cache is damaged, `augment` is missing or another one, or a
                sample of an array is not in the cache.
        """
        return attach(self, data, batch_size, shuffle, seed, augment)

    def verify(self) -> list[tuple[str, str]]:
        """Returns `(path, problem)` of each file; `""` where it is sound."""
        return manifests.problems(self.directory)

    def info(self) -> dict[str, Any]:
        """Returns what there is to know of the cache, as JSON values."""
        return manifests.info(self.directory, self.manifest)

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says.

        Raises:
            ValueError: If labelling is not finished, or the file is damaged.
        """
        manifest = manifests.read_manifest(self.directory)
        if manifest is None:
            raise ValueError(
                f"The cache in {self.directory} is not finished: it has no "
                f"{manifests.MANIFEST}. Call `build(teacher, dataset)`; what "
                "was labelled before is kept."
            )
        return manifest

    @functools.cached_property
    def shards(self) -> list[Shard]:
        """The shards in order; each is compared with its sha256 when read."""
        return manifests.open_shards(self.directory, self.manifest)

    @property
    def encodings(self) -> dict[str, Any]:
        """The encoding of each tap."""
        manifest = manifests.read_if_sound(self.directory)
        if manifest is None:
            return self.options.encodings()
        with reading(self.directory / manifests.MANIFEST, "a manifest"):
            found = restore(manifest["encodings"])
            return {tap: found[tap] for tap in self.options.taps}

    @property
    def fingerprints(self) -> np.ndarray:
        """Fingerprints of all samples as uint64 `(samples,)`."""
        return manifests.all_fingerprints(self.shards)

    def __len__(self) -> int:
        return self.manifest["samples"]

    def read(
        self, rows: np.ndarray, views: np.ndarray | int = 0
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns what is stored of some samples; see `reading.read_rows`."""
        return read_rows(self.shards, self.options.taps, rows, views)
