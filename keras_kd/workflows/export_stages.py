# SPDX-License-Identifier: Apache-2.0
"""The stages of a run that write files: of what is shipped, of the teacher."""

from __future__ import annotations

import os
from typing import Any

from keras_kd.core.records import StageRecord
from keras_kd.data.splits import take
from keras_kd.export import export
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

    def make():
        record = export(
            stages.folder.model(student),
            place.parent,
            name=place.name,
            inputs=take(stages.data.train, 256),
            calibration=stages.data if options["quantize"] else None,
            verbose=stages.verbose,
            **options,
        )
        # Stages look for their files from where their records are.
        record.artefacts = {
            os.path.relpath(
                place.parent / path, stages.folder.directory
            ): digest
            for path, digest in record.artefacts.items()
        }
        return None, record

    depends_on = {**as_json(options), "model": sha256_of(student)}
    stage = f"export-{name}" if name else "export"
    return stages.folder.run(stage, depends_on, make)


def teacher_file(stages: CompressionStages) -> StageRecord | None:
    """Converts the teacher for LiteRT, to compare the .tflite files with.

    The file stays among the stages. Its record has no artefact, but says
    what was `refused`, if the teacher does not convert.

    Returns:
        The record; `None` if the teacher is no model of its own.
    """
    model = stages.evaluator.teacher_model()
    if model is None:
        return None

    def make():
        stages.say("converting the teacher for LiteRT, to compare with")
        try:
            return None, export(
                model,
                stages.folder.directory,
                name="teacher",
                formats="tflite",
                inputs=take(stages.data.train, 256),
                verbose=0,
            )
        # Of any kind: the run does without the comparison.
        except Exception as error:
            refused = {"refused": str(error)}
            return None, StageRecord("export", "teacher", metrics=refused)

    return stages.folder.run("teacher-tflite", stages.common["lesson"], make)
