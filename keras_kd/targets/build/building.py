# SPDX-License-Identifier: Apache-2.0
"""Building a cache: settings first, then the shards, the manifest last."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

from keras_kd import teachers
from keras_kd.core import progress
from keras_kd.core.file_lock import file_lock
from keras_kd.core.folders import check_folder
from keras_kd.core.identity import identity
from keras_kd.core.leases import sweep
from keras_kd.data.batches import rows_of
from keras_kd.data.reading import Streams
from keras_kd.data.reading import parts_of
from keras_kd.data.sample_shapes import check_inputs
from keras_kd.data.sample_shapes import shapes_of
from keras_kd.engines import Engine as Workers
from keras_kd.targets.augment.views import Views
from keras_kd.targets.augment.views import check_replayable
from keras_kd.targets.build import labelling
from keras_kd.targets.build import streaming
from keras_kd.targets.build.keeping import encodings_for
from keras_kd.targets.inference import engines
from keras_kd.targets.inference.spread import Asked
from keras_kd.targets.inference.spread import spread
from keras_kd.targets.store import manifest as manifests
from keras_kd.targets.store import shards
from keras_kd.targets.store.options import Options
from keras_kd.targets.store.options import describe


def build(
    directory: pathlib.Path,
    options: Options,
    encodings: dict[str, Any],
    teacher: Any,
    data: Any,
    augment: Any = None,
    batch_size: int = 256,
    part: tuple[int, int] | None = None,
    verbose: int = 1,
    agreement: float | None = None,
    engine: str | Workers | None = None,
    extend: bool = False,
) -> None:
    """Labels a data set, or what of it is not labelled yet.

    Args:
        directory: Folder of the cache.
        options: What to store.
        encodings: How each tap is stored.
        extend: Whether to label only samples that the cache has not, and to
            add them to it. All else as for `TeacherCache.build`.
    """
    check_folder(directory)
    teacher = checked_teacher(teacher)
    if options.outputs is not None:
        teacher = copy.copy(teacher)
        teacher.say_outputs(options.outputs)
    part = _checked_part(part)
    if isinstance(engine, Workers) and agreement is not None:
        raise ValueError(
            "Other processes run the teacher's own call. Expected "
            f"agreement=None with engine={engine}. Received: "
            f"agreement={agreement}"
        )
    data = data if isinstance(data, Streams) else parts_of(data, "dataset")
    inputs = streaming.inputs_of(data, batch_size)
    spec = inputs.element_spec["x"]
    if getattr(teacher, "preprocess", None) is None and augment is None:
        check_inputs(spec, getattr(teacher, "model", None), "dataset")
    views = _views(augment, options, data, inputs)
    settings = {
        **options.to_json(),
        "teacher": identity((teacher, list(options.taps))),
        "augment": None if views is None else views.identity,
        "agreement": agreement,
        "part": None if part is None else list(part),
    }
    with locked(directory):
        before = manifests.read_settings(directory)
        keys = labelling.target_keys(teacher, options.taps)
        encodings = encodings_for(encodings, options, keys, teacher, before)
        manifests.settle(directory, settings)
        for folder in (directory, directory / manifests.SHARDS):
            sweep(folder, lease=0)  # the lock says that nobody writes there
        finished = manifests.read_if_sound(directory)
        total = streaming.sample_count(data, batch_size)
        seen = inputs if views is None else inputs.map(views.first)
        batches = seen.map(lambda element: element["x"])

        workers = engine if isinstance(engine, Workers) else None

        def choose(held):
            if workers is not None:
                asked = Asked(teacher, options.taps, batches.element_spec)
                return spread(workers, asked)
            return engines.choose(
                teacher,
                options.taps,
                batches,
                agreement,
                verbose=verbose,
                name=engine or held,
                answers=total and total * (1 if views is None else len(views)),
            )

        task = labelling.Labelling(
            directory / manifests.SHARDS,
            choose,
            encodings,
            options.shard_size,
            views,
            part or (0, 1),
            lambda line: progress.say(line, verbose),
            output_key=keys.get("output"),
            shards_ahead=0 if workers is None else workers.slots,
        )
        before = []
        if extend:
            before = manifests.open_shards(directory, finished)
            known = manifests.all_fingerprints(before)
            task.digest.update(known.tobytes())
            task.start = (before[-1].number + 1, len(known))
            inputs = streaming.without(inputs, known, batch_size)
        elif finished:
            entries = finished["shards"]
            task.closed = {e["number"]: e["samples"] for e in entries}
        stream = streaming.batches_of(inputs, batch_size, options.shard_size)
        title = f"labelling {directory.name}"
        with progress.progress_bar(title, total, verbose=verbose) as advance:
            task.run(stream, advance)
        _finish(directory, task, before, finished, shapes_of(spec))


def _finish(directory, task, before, finished, shapes):
    """Writes the manifest over all shards, old and new."""
    if task.samples == 0 and not before:
        raise ValueError("There is nothing to label: the data set is empty.")
    found = [*before, *task.shards]
    samples = task.start[1] + task.samples
    data = {"samples": samples, "sha256": task.digest.hexdigest()}
    folder = task.folder
    if finished and not before:
        # Labelled before; a damaged shard may have been written anew, and
        # the data may be the first ones of a cache that was extended.
        rest = finished["shards"][len(found) :]
        found += [
            shards.Shard(folder / shards.name_of(e["number"])) for e in rest
        ]
        data = finished["data"] if rest else data
    else:
        numbers = {shard.number for shard in found}
        beyond = set(shards.shards_on_disk(folder)) - numbers
        if beyond:
            raise ValueError(
                f"The data set ends after sample {samples - 1}, but "
                f"{folder / shards.name_of(min(beyond))} holds more that was "
                "labelled before. Give the same data set again, or another "
                "directory."
            )
    unless = describe(task.encodings)
    manifests.write_manifest(directory, found, data, unless, shapes)


def checked_teacher(teacher: Any) -> teachers.Teacher:
    """Returns a teacher whose answers can be stored.

    Raises:
        ValueError: If there is none, or its answers change as it teaches.
    """
    teacher = teachers.get(teacher)
    if teacher is None or not teacher.can_be_stored:
        raise ValueError(
            "`teacher` must be one whose answers can be stored: a trained "
            "keras.Model, a list of them, or a kd.teachers.Teacher that does "
            f"not change while it teaches. Received: {type(teacher).__name__}"
        )
    return teacher


def locked(directory: pathlib.Path):
    """Holds the folder of a cache; raises ValueError if it is being built."""
    return file_lock(
        directory,
        f"Another process is labelling into {directory}. Wait for it, or "
        "label parts in directories of their own and merge them.",
    )


def _checked_part(part):
    if part is None:
        return None
    index, count = part
    if not 0 <= index < count:
        raise ValueError(
            "`part` must be (i, n) with i from 0 to n - 1. Received: "
            f"part={tuple(part)}"
        )
    return int(index), int(count)


def _views(augment, options, data, inputs) -> Views | None:
    """Returns what makes the augmented views, or `None`."""
    if augment is None:
        if options.views != 1:
            raise ValueError(
                "Several views of a sample need an `augment` that makes them "
                f"differ. Received: views={options.views}, augment=None"
            )
        return None
    arrays = None if isinstance(data, Streams) else data[0]
    views = Views.of(augment, options, arrays)
    few = next(iter(inputs.take(1)))["x"]
    check_replayable(views, rows_of(few, slice(32)))
    return views
