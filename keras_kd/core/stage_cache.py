# SPDX-License-Identifier: Apache-2.0
"""StageFolder: finished stages on disk, so that a killed run goes on."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.canonical_form import canonical_form
from keras_kd.core.identity import architecture_without_config
from keras_kd.core.identity import identity_of_code
from keras_kd.core.leases import sweep
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.records import replacing

PACKAGES = (
    *("keras_kd", "keras", "tensorflow", "ai-edge-litert"),
    "tensorflow-model-optimization",
)
"""Another version of one may compute something else."""


class StageFolder:
    """Keeps each finished stage as a record and, where there is one, a model.

    A stage is done when its record is on disk, and the record is written
    last. It is done *again* when anything it depends on has changed (its
    fingerprint, or the version of a package) or a file of it is damaged (its
    sha256).

    Args:
        directory: Folder of the records.
        say: What to tell the user, one line at a time.

    Example:

    ```python
    stages = StageFolder("run/stages")
    make = lambda: (student, StageRecord("train", "control-0"))
    record = stages.run("control-0", {"epochs": 3}, make)
    model = stages.model(record)
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.directory = pathlib.Path(directory)
        self.say = say

    def run(
        self, key: str, depends_on: Any, make: Callable[[], tuple]
    ) -> StageRecord:
        """Returns the stage's record, from disk if it still holds.

        Args:
            key: Name of the stage's files.
            depends_on: Everything the result depends on, as JSON values.
            make: Returns `(model, record)`; the model may be the content of
                its file, or `None`.
        """
        record = self.finished(key, depends_on)
        if record is not None:
            return record
        sweep(self.directory)
        model, record = make()
        record.settings["fingerprint"] = fingerprint(depends_on)
        record.settings["made_with"] = versions()
        if model is not None:
            path = self.directory / f"{key}.keras"
            with replacing(path) as temporary:
                if isinstance(model, bytes):
                    temporary.write_bytes(model)
                else:
                    model.save(temporary)
            record.artefacts[path.name] = file_sha256(path)
        record.save(self.directory / f"{key}.json")
        return record

    def model_path(self, record: StageRecord) -> pathlib.Path:
        """Returns where the model of a finished stage is."""
        (file,) = record.artefacts
        return self.directory / file

    def model(self, record: StageRecord) -> keras.Model:
        """Loads the model of a finished stage."""
        return keras.saving.load_model(self.model_path(record), compile=False)

    def finished(self, key: str, depends_on: Any) -> StageRecord | None:
        """Returns the stage's record if it still holds; see `run`."""
        record = self._found(key, fingerprint(depends_on))
        if record is not None:
            self.say(f"{key}: done before")
        return record

    def _found(self, key, depends_on):
        try:
            record = StageRecord.load(self.directory / f"{key}.json")
            if record.settings.get("fingerprint") != depends_on:
                self.say(f"{key}: what it depends on changed, doing it again")
                return None
            now = versions()
            made_with = record.settings.get("made_with", now)
            if made_with != now:
                self.say(
                    f"{key}: made with {made_with}, doing it again with {now}"
                )
                return None
            for name, digest in record.artefacts.items():
                if file_sha256(self.directory / name) != digest:
                    self.say(f"{key}: {name} is damaged, doing it again")
                    return None
        except FileNotFoundError:
            return None
        except ValueError as error:
            self.say(f"{key}: doing it again. {error}")
            return None
        return record


@functools.cache
def versions() -> dict[str, str | None]:
    """Returns the versions of the packages that a stage's result is by."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def fingerprint(value: Any) -> str:
    """Returns a sha256 that changes when `value` (JSON values) does."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_of_split(split: Any, name: str | None = None) -> str:
    """Returns a sha256 of a split's content.

    A `tf.data.Dataset` is read once. It may give its batches in any order,
    and its examples in any batches of the same sizes; one that draws new
    examples each time is another one each time.

    Args:
        split: Arrays, or a batched `tf.data.Dataset`.
        name: Name and version of the data, which stand for the content of a
            `tf.data.Dataset`: it is not read.

    Raises:
        ValueError: If a data set has no end.
    """
    if isinstance(split, tf.data.Dataset):
        count = int(split.cardinality())
        facts = [str(split.element_spec), str(count)]
        if name is None and count == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "A split must end. Received: a tf.data.Dataset that repeats "
                "forever. Leave out its `repeat()`."
            )
        content = _content_of(split) if name is None else ["named", name]
        return fingerprint(facts + content)
    digest = hashlib.sha256()
    for array in tf.nest.flatten(tuple(split)):
        array = np.ascontiguousarray(array)
        digest.update(f"{array.shape}{array.dtype}".encode())
        if array.dtype.hasobject:  # text, which has no buffer
            digest.update(repr(array.tolist()).encode())
            continue
        # An array is a buffer; NumPy's types say so from Python 3.12 on.
        digest.update(array)  # type: ignore[arg-type]
    return digest.hexdigest()


def _content_of(dataset):
    """Returns sums of the hashes of all examples, and of all batch sizes."""
    examples = sizes = 0
    for batch in dataset:
        leaves = [leaf.numpy() for leaf in tf.nest.flatten(batch, True)]
        lengths = {len(leaf) if np.ndim(leaf) else -1 for leaf in leaves}
        rows = [leaves]
        if len(lengths) == 1 and -1 not in lengths:
            rows = zip(*leaves, strict=True)
        for row in rows:
            digest = hashlib.sha256()
            for part in map(np.asarray, row):
                digest.update(f"{part.shape}{part.dtype}".encode())
                has_text = part.dtype.hasobject
                digest.update(
                    repr(part.tolist()).encode() if has_text else part.tobytes()
                )
            examples += int.from_bytes(digest.digest(), "big")
        sizes += int(fingerprint(sorted(lengths)), 16)
    return [str(examples), str(sizes)]


def fingerprint_of_builder(build: Callable[[], keras.Model]) -> str:
    """Returns a sha256 of what `build` gives, without what is drawn anew.

    Weights that two models have in common, such as those of a file that
    `build` loads, belong to it; a random start, zeros and ones do not.
    """
    first, second = build(), build()
    architecture = fingerprint_of_model(first, weights=False)
    digest = hashlib.sha256(architecture.encode())
    is_given = False
    for place, weights in enumerate(
        zip(first.weights, second.weights, strict=True)
    ):
        one, other = map(keras.ops.convert_to_numpy, weights)
        if np.array_equal(one, other) and np.any(
            one.ravel() != one.ravel()[:1]
        ):
            is_given = True
            digest.update(str(place).encode())
            digest.update(one.tobytes())
    return digest.hexdigest() if is_given else architecture


def fingerprint_of_model(model: keras.Model, weights: bool = True) -> str:
    """Returns a sha256 of a model's architecture and, if asked, weights."""
    try:
        text = json.dumps(canonical_form(model), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):
        text = architecture_without_config(model)
    digest = hashlib.sha256(text.encode())
    # The code of its own layers, which Keras does not write down.
    digest.update((identity_of_code(model) or "").encode())
    for weight in model.weights:
        digest.update(f"{weight.shape}{weight.dtype}".encode())
        if weights:
            values = keras.ops.convert_to_numpy(weight)
            values = np.ascontiguousarray(values)
            digest.update(values)  # type: ignore[arg-type]  # as above
    return digest.hexdigest()
