# SPDX-License-Identifier: Apache-2.0
"""The stages of a run that write files: of what is shipped, of the teacher."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import Any

import keras

from keras_kd.core.passing_faults import is_passing
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.stage_cache import fingerprint
from keras_kd.core.stage_cache import versions
from keras_kd.data.parts import take
from keras_kd.export import export
from keras_kd.export.formats.variants import file_name
from keras_kd.export.formats.variants import variants
from keras_kd.training.settings_json import as_json
from keras_kd.workflows.stages import CompressionStages
from keras_kd.workflows.stages import sha256_of


def exported(
    stages: CompressionStages,
    student: StageRecord,
    options: dict[str, Any],
    name: str = "",
) -> StageRecord:
    """Exports a model to the run's folder, or to a folder in it.

    Args:
        stages: The run.
        student: The record of the model.
        options: Arguments of `export`: `formats`, `quantize` and others.
        name: Of the folder in it.
    """
    place = stages.directory / name
    depends_on = {**as_json(options), "model": sha256_of(student)}

    def write(**changes):
        chosen = {**options, **changes}
        return export(
            stages.folder.model(student),
            place.parent,
            name=place.name,
            inputs=take(stages.files.train, 256),
            calibration=stages.files if chosen["quantize"] else None,
            task=stages.task,
            verbose=stages.verbose,
            # A run killed before the record is kept adds no second version.
            identity=fingerprint([depends_on, versions()]),
            **chosen,
        )

    def make():
        try:
            record = write()
        except (RuntimeError, ValueError) as error:
            if is_passing(error):
                raise
            record = _what_can_be(write, options, error)
        # Stages look for their files from where their records are.
        record.artefacts = {
            os.path.relpath(
                place.parent / path, stages.folder.directory
            ): digest
            for path, digest in record.artefacts.items()
        }
        return None, record

    stage = f"export-{name}" if name else "export"
    return stages.folder.run(stage, depends_on, make)


def withdrawn(stages: CompressionStages, name: str) -> None:
    """Removes what an earlier run of this folder exported to one inside it.

    Of that only the files that its record names, as they were written.

    Args:
        stages: The run.
        name: What `exported` was given.
    """
    kept = stages.folder.directory / f"export-{name}.json"
    place = stages.directory / name
    try:
        files = StageRecord.load(kept).artefacts
    except (FileNotFoundError, ValueError):
        return
    stages.say(f"{name}: its files are of an earlier run, and are removed")
    folders = set()
    for path, digest in files.items():
        file = pathlib.Path(os.path.normpath(kept.parent / path))
        if place in file.parents and file.is_file() and not place.is_symlink():
            if file_sha256(file) == digest:
                file.unlink()
                folders.add(file.parent)
    for folder in sorted(folders - {place}, reverse=True):
        with contextlib.suppress(OSError):  # it holds what is not ours
            folder.rmdir()
    kept.unlink()


def refusals(
    exported: StageRecord, model: str
) -> tuple[list[StageRecord], list[str]]:
    """Returns a row and a sentence for each file that could not be made.

    Args:
        exported: What `exported` returned.
        model: Name of the model.
    """
    rows, notes = [], []
    for kind, reason in exported.settings.get("refused", {}).items():
        name = "SavedModel"
        if kind != "saved_model":
            name = file_name(model, kind).removeprefix(model)
        rows.append(StageRecord("export", f"{name} (refused)"))
        notes.append(f"The {name} is refused: {reason[:300]}")
    return rows, notes


def _what_can_be(write, options, error):
    """Writes the files one by one, and says of each that is refused why.

    Raises:
        ValueError, RuntimeError: What was raised before, if all are refused.
    """
    kinds = (
        variants(options["quantize"]) if "tflite" in options["formats"] else {}
    )
    asked: dict[str, dict] = {
        kind: {
            "formats": ["tflite"],
            "quantize": choice if kind == "tflite" else [choice],
        }
        for kind, choice in kinds.items()
    }
    if "saved_model" in options["formats"]:
        asked["saved_model"] = {"formats": ["saved_model"], "quantize": None}
    if len(asked) == 1:
        raise error
    records, refused = {}, {}
    for kind, changes in asked.items():
        try:
            records[kind] = write(**changes)
        except (RuntimeError, ValueError) as reason:
            if is_passing(reason):
                raise
            refused[kind] = str(reason)
    if not records:
        raise error
    record = next(iter(records.values()))
    record.metrics = {
        kind: each.metrics[kind] for kind, each in records.items()
    }
    record.artefacts = {
        path: digest
        for each in records.values()
        for path, digest in each.artefacts.items()
    }
    record.settings |= as_json(options) | {"refused": refused}
    return record


def teacher_file(
    stages: CompressionStages, preprocess: keras.Layer | None = None
) -> StageRecord | None:
    """Converts the teacher for LiteRT, to compare the .tflite files with.

    The file stays among the stages. Its record has no artefact, but says
    what was `refused`, if the teacher does not convert.

    Args:
        stages: The run.
        preprocess: See `export`.

    Returns:
        The record; `None` if the teacher is no model of its own.
    """
    model = stages.evaluator.teacher_model()
    if model is None:
        return None

    def make():
        stages.say("converting the teacher to LiteRT, for comparison")
        try:
            return None, export(
                model,
                stages.folder.directory,
                name="teacher",
                formats="tflite",
                inputs=take(stages.files.train, 256),
                preprocess=preprocess,
                verbose=0,
            )
        # Of any kind: the run does without the comparison. A full disk is no
        # refusal, and would be one for ever.
        except Exception as error:
            if is_passing(error):
                raise
            refused = {"refused": str(error)}
            return None, StageRecord("export", "teacher", metrics=refused)

    return stages.folder.run("teacher-tflite", stages.common["lesson"], make)


def refusal_of_teacher(record: StageRecord) -> list[str]:
    """Returns a sentence if the record of `teacher_file` has no file."""
    if record.artefacts:
        return []
    return [
        "The teacher does not convert to LiteRT, so no .tflite file is "
        f"compared with it: {record.metrics['refused'][:300]}"
    ]
