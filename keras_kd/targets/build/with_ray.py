# SPDX-License-Identifier: Apache-2.0
"""label_with_ray(): a stream that is too large for one machine."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.core import progress
from keras_kd.core.extras import import_extra
from keras_kd.core.folders import check_folder
from keras_kd.core.identity import identity
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.data.batches import length
from keras_kd.data.batches import rows_of
from keras_kd.data.sample_shapes import shapes_of
from keras_kd.engines import shipping
from keras_kd.engines import worker
from keras_kd.targets.build.building import checked_teacher
from keras_kd.targets.build.keeping import encodings_for
from keras_kd.targets.build.labelling import stored_fields
from keras_kd.targets.build.labelling import target_keys
from keras_kd.targets.hashing.fingerprint import fingerprints
from keras_kd.targets.inference.spread import Asked
from keras_kd.targets.inference.spread import ask
from keras_kd.targets.store import parquet
from keras_kd.targets.store.manifest import compare_settings
from keras_kd.targets.store.options import AUTO
from keras_kd.targets.store.options import Options
from keras_kd.targets.store.options import describe

if TYPE_CHECKING:
    import ray


def label_with_ray(
    dataset: ray.data.Dataset,
    teacher: TeacherLike,
    directory: str | os.PathLike,
    inputs: str | Sequence[str] = "x",
    *,
    taps: Sequence[str] = ("output",),
    dtype: str = "float16",
    top_k: int | str | None = AUTO,
    outputs: str | dict | None = None,
    batch_size: int = 256,
    file_size: int = 4096,
    workers: int = 2,
    threads: int = 1,
    gpus: float = 0,
    verbose: int = 1,
) -> list[pathlib.Path]:
    """Labels a data set of Ray Data on a cluster, into Parquet files.

    Each worker asks the teacher about blocks of the data and writes them
    itself, so nothing goes through this process. After a crash call it again:
    samples in finished files, known by their content, are not asked again.
    Needs Ray: `pip install 'keras_kd[ray]'`.

    Args:
        dataset: A `ray.data.Dataset`.
        teacher: See `TeacherCache.build`.
        directory: Folder of the files, which all machines reach by this path.
        inputs: Column of the data that the teacher takes, or several, which
            it takes as a dict. Values are those of the training, with their
            dtype: a sample is known by them.
        taps: See `TeacherCache`, as `dtype`, `top_k` and `outputs`.
        dtype: Of what is stored in full.
        top_k: How many of the likeliest classes are stored.
        outputs: What the teacher's outputs are.
        batch_size: Samples that the teacher is given at a time.
        file_size: Samples in a file, at most.
        workers: Processes that label.
        threads: CPUs of each.
        gpus: GPUs of each.
        verbose: 0 prints nothing, else there is a progress bar.

    Returns:
        The files; `TeacherCache.from_parquet` makes a cache of them.

    Raises:
        ValueError: If the folder holds files of another teacher or other
            options, the teacher gives NaN or infinity, or workers take all
            CPUs of the cluster.

    Example:

    ```py
    images = ray.data.read_numpy("images/")  # column "data"
    kd.targets.label_with_ray(images, teacher, "/shared/answers", "data")
    cache = kd.TeacherCache.from_parquet("/shared/answers", "targets")
    ```
    """
    data = import_extra("ray.data", "ray", "label_with_ray")
    _check_room(workers * threads)
    directory = check_folder(pathlib.Path(directory).absolute())
    directory.mkdir(parents=True, exist_ok=True)
    teacher = checked_teacher(teacher)
    taps = (taps,) if isinstance(taps, str) else tuple(taps)
    if outputs is not None:
        teacher = copy.copy(teacher)
        teacher.say_outputs(outputs)
    options = Options(taps, dtype, top_k, shard_size=file_size, outputs=outputs)
    settings = {
        **options.to_json(),
        "teacher": identity((teacher, list(taps))),
        "augment": None,
        "agreement": None,
    }
    known = _known(directory, settings)
    keys = target_keys(teacher, taps)
    labeller = Labeller(
        directory,
        teacher,
        (inputs,) if isinstance(inputs, str) else tuple(inputs),
        isinstance(inputs, str),
        encodings_for(options.encodings(), options, keys, teacher, None),
        keys.get("output"),
        settings,
        known,
        batch_size,
    )
    content = shipping.packed(labeller, everywhere=True)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    data.DataContext.get_current().enable_progress_bars = False
    counts = dataset.select_columns(list(labeller.columns)).map_batches(
        _Actor,
        fn_constructor_args=(content, worker.environment(threads)),
        batch_size=file_size,
        batch_format="numpy",
        concurrency=workers,
        num_cpus=threads,
        num_gpus=gpus,
    )
    title = f"labelling {directory.name}"
    with progress.progress_bar(title, None, verbose=verbose) as advance:
        for row in counts.iter_rows():
            advance(int(row["samples"]))
    return parquet.files_in(directory)


@dataclasses.dataclass
class Labeller:
    """What a worker does with a block.

    Args:
        directory: Where files go.
        teacher: Whom it asks.
        columns: Columns of the inputs.
        is_one: Whether the teacher takes the one column itself, not a dict.
        encodings: How each tap is stored.
        output_key: What the teacher's output is.
        settings: What files say of the labelling.
        known: Sorted fingerprints of samples that are not asked again.
        batch_size: Samples that the teacher is given at a time.
    """

    directory: pathlib.Path
    teacher: Any
    columns: tuple[str, ...]
    is_one: bool
    encodings: dict[str, Any]
    output_key: str | None
    settings: dict[str, Any]
    known: np.ndarray
    batch_size: int
    asked: Asked | None = None

    def label(self, batch: dict[str, np.ndarray]) -> int:
        """Writes the answers to a block; returns how many samples it has."""
        x = {name: batch[name] for name in self.columns}
        x = x[self.columns[0]] if self.is_one else x
        marks = fingerprints(x).numpy()
        new = np.flatnonzero(~np.isin(marks, self.known))
        if len(new):
            x, of_new = rows_of(x, new), marks[new]
            spec = tf.nest.map_structure(_spec_of, x)
            if self.asked is None:
                taps = tuple(self.encodings)
                self.asked = Asked(self.teacher, taps, spec)
            parts = [
                self._stored(rows_of(x, slice(at, at + self.batch_size)), at)
                for at in range(0, length(x), self.batch_size)
            ]
            fields = {
                name: np.concatenate([part[name] for part in parts])
                for name in parts[0]
            }
            facts = {
                "settings": self.settings,
                "encodings": describe(self.encodings),
                "sample_shapes": shapes_of(spec),
            }
            fields[parquet.MARKS] = of_new
            parquet.write_file(self.directory, fields, facts)
        return len(marks)

    def _stored(self, x, place):
        answers = ask(self.asked, x)
        return stored_fields(self.encodings, [answers], self.output_key, place)


class _Actor:
    """What Ray Data makes once for each worker."""

    def __init__(self, content: bytes, environment: dict[str, str]):
        os.environ.update(environment)  # TensorFlow has not started
        self.labeller = shipping.unpacked(content)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"samples": np.array([self.labeller.label(batch)])}


def _spec_of(array):
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


def _check_room(wanted):
    ray = import_extra("ray", "ray", "label_with_ray")
    cpus = ray.cluster_resources().get("CPU", 0) if ray.is_initialized() else 0
    if 0 < cpus <= wanted:
        raise ValueError(
            f"The cluster has {cpus:.0f} CPUs. Expected workers * threads "
            "below that, or nothing is left to read the data with. Received: "
            f"{wanted}"
        )


def _known(directory, settings):
    marks = [np.zeros(0, "uint64")]
    for path in parquet.files_in(directory):
        found = parquet.facts_of(path)["settings"]
        compare_settings(found, settings, path)
        marks.append(parquet.read_fields(path, [parquet.MARKS])[parquet.MARKS])
    return np.unique(np.concatenate(marks))
