# SPDX-License-Identifier: Apache-2.0
"""dry_run(): one batch through every stage, before hours are spent."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import time
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.folders import work_folder
from keras_kd.core.passing_faults import is_passing
from keras_kd.core.records import StageRecord
from keras_kd.data.parts import take
from keras_kd.data.splits import Data
from keras_kd.data.splits import first_batches
from keras_kd.engines import Serial
from keras_kd.export.formats.litert import write_tflite
from keras_kd.export.formats.saved_model import full_precision
from keras_kd.export.formats.saved_model import write_saved_model
from keras_kd.export.formats.variants import file_name
from keras_kd.export.formats.variants import variants
from keras_kd.export.signatures.answers import head_of
from keras_kd.export.signatures.endpoint import make_endpoint
from keras_kd.report import Report
from keras_kd.training.settings_json import as_json
from keras_kd.training.trainer import copies_of
from keras_kd.workflows.seeds import train_seeds
from keras_kd.workflows.stages import CompressionStages

JUDGED_ROWS = 32
"""Examples of arrays that files are judged by: LiteRT takes them singly."""


def dry_run(
    stages: CompressionStages, prune: float | None, files: dict[str, Any]
) -> None:
    """Takes one batch through every stage that was asked for.

    A new student learns from it, is pruned, converted to each format,
    measured and reported, in a temporary folder. That is one step of each
    training, not compiled, and one conversion to each format. Files are not
    compared with the model: one that has not been trained may round
    otherwise. Every stage seeds itself, so nothing of the run depends on
    this. It is kept as a stage is, and done again only where something that
    it depends on has changed.

    Args:
        stages: The run.
        prune: Share of the weights to prune, or `None`.
        files: Arguments of `export`.

    Raises:
        ValueError: Names the stage that fails. A format that does not convert
            is said, unless there is no other.
    """
    depends_on = [stages.taught, prune, as_json(files)]

    def make():
        stages.say("trying one batch through every stage first")
        began = time.monotonic()
        with work_folder() as folder:
            refused = _through_all(stages, prune, files, folder)
        return None, StageRecord(
            "dry run",
            "dry run",
            metrics={"refused": refused},
            seconds=time.monotonic() - began,
        )

    found = stages.folder.run("dry-run", depends_on, make)
    for name, reason in found.metrics["refused"].items():
        stages.say(f"{name} will be refused: {reason[:300]}")


def one_batch(data: Data, batch_size: int) -> Data:
    """Returns a batch of each split, of the kind that the split is.

    Rows of arrays are spread over the whole: files are often sorted. Of a
    `tf.data.Dataset` the first batch; for training that of the validation
    split where it is alike, since to begin a data set that shuffles itself
    moves its later orders on.
    """
    train, validation = data.train, data.validation
    if isinstance(train, tf.data.Dataset) and _alike(train, validation):
        train = validation
    return Data(
        _batch_of(train, batch_size),
        _batch_of(validation, JUDGED_ROWS),
        None
        if data.reported_split == "validation"
        else _batch_of(data.test, JUDGED_ROWS),
        class_names=data.class_names,
    )


def _alike(one, other):
    if not isinstance(other, tf.data.Dataset):
        return False
    specs = [
        tf.nest.map_structure(lambda s: (s.dtype, s.shape[1:]), each)
        for each in (one.element_spec, other.element_spec)
    ]
    return specs[0] == specs[1]


def _batch_of(split, count):
    if isinstance(split, tf.data.Dataset):
        return first_batches(split, 1, count)
    total = len(tf.nest.flatten(split)[0])
    rows = np.linspace(0, total - 1, min(count, total)).astype(int)
    return tf.nest.map_structure(lambda array: np.asarray(array)[rows], split)


def _through_all(stages, prune, files, folder: pathlib.Path) -> dict[str, str]:
    """Returns the formats that do not convert, and why."""
    training = {**stages.training, "epochs": 1, "watch": ("loss", "min")}
    training.pop("callbacks", None)  # they may write what is to be kept
    if callable(given := training.get("optimizer")):
        # Its schedule may have a warm-up of more steps than one.
        steps = _steps(stages)
        training["optimizer"] = lambda _: given(steps)
    distilling = dict(stages.distilling)
    distilling["distillation_losses"] = copies_of(
        distilling["distillation_losses"]
    )
    data = one_batch(stages.data, training["batch_size"])
    raw = data
    if stages.files is not stages.data:
        raw = one_batch(stages.files, training["batch_size"])
    tried = CompressionStages(
        stages.teacher_targets.teacher,
        stages.build_student,
        data,
        folder / "tried",
        training,
        distilling,
        verbose=0,
        task=stages.task,
        files=raw,
    )
    with _telling("training a student"), _eagerly():
        (student,) = train_seeds(tried, ["student"], [0], Serial())["student"]
    records = [student]
    if prune:
        with _telling("pruning"), _eagerly():
            student = tried.pruned(student, prune, 1)
        records.append(student)
    with _telling("writing files"):
        model = tried.folder.model(student)
        paths, refused = convert(model, tried, files)
    for kind, path in paths.items():
        with _telling(f"measuring the file ({kind})"):
            measured = tried.evaluator.measure(path)
        records.append(StageRecord("export", kind, metrics=measured))
    with _telling("reporting"):
        records = [dataclasses.replace(one, settings={}) for one in records]
        Report(tried.directory, records).save()
    return refused


def _steps(stages) -> int:
    """Returns the steps of a whole training, or many if that is not known."""
    train, epochs = stages.data.train, stages.training["epochs"]
    if isinstance(train, tf.data.Dataset):
        count = int(train.cardinality())
        return epochs * (count if count > 0 else 10_000)
    return epochs * math.ceil(
        len(tf.nest.flatten(train)[0]) / stages.training["batch_size"]
    )


def convert(
    model: keras.Model, stages: CompressionStages, files: dict[str, Any]
) -> tuple[dict[str, pathlib.Path], dict[str, str]]:
    """Converts a model to each format; nothing is verified or published.

    Args:
        model: The model.
        stages: Its run, whose folder the files go into.
        files: Arguments of `export`.

    Returns:
        The files by their kind, and why others could not be made.

    Raises:
        ValueError, RuntimeError: If none could be made.
    """
    inputs = take(stages.files.train, JUDGED_ROWS)
    preprocess = files.get("preprocess")
    head = head_of(model, files.get("head"), stages.task)
    common: dict[str, Any] = {"head": head, "inputs": inputs}
    common["preprocess"] = preprocess
    representative = make_endpoint(model, **common).request(inputs)
    lite_source = stages.directory / "lite"

    def lite(kind, quantize):
        if not lite_source.exists():
            with full_precision(model, preprocess):
                write_saved_model(model, lite_source, batch_size=1, **common)
        return write_tflite(
            lite_source,
            stages.directory / file_name("tried", kind),
            quantize=quantize,
            representative=representative,
        )

    asked: dict[str, Any] = {}
    if "saved_model" in files["formats"]:
        place = stages.directory / "1"
        asked["saved_model"] = lambda: write_saved_model(model, place, **common)
    if "tflite" in files["formats"]:
        for kind, quantize in variants(files["quantize"]).items():
            asked[kind] = lambda k=kind, q=quantize: lite(k, q)
    made: dict[str, pathlib.Path] = {}
    refused: dict[str, str] = {}
    for kind, write in asked.items():
        try:
            made[kind] = write()
        except (RuntimeError, ValueError) as error:
            if is_passing(error) or len(refused) + 1 == len(asked):
                raise
            refused[kind] = str(error)
    return made, refused


@contextlib.contextmanager
def _eagerly() -> Iterator[None]:
    """Traces no step: for a single batch that takes most of the time.

    What would be warned of is warned of again by the run.
    """
    before = tf.config.functions_run_eagerly()
    # Replicas only run together in a graph.
    tf.config.run_functions_eagerly(not tf.distribute.has_strategy())
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def _telling(stage: str) -> Iterator[None]:
    """Says which stage one batch did not come through."""
    try:
        yield
    except Exception as error:  # by anything that users wrote
        if is_passing(error):
            raise
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(
            "Before any training one batch went through every stage, and "
            f"{stage} failed. {kind}{error}"
        ) from error
