# SPDX-License-Identifier: Apache-2.0
"""artifact_metrics(): a run's models and files, measured side by side."""

from __future__ import annotations

import time

from keras_kd.core.copying import custom_classes
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.records import write_atomically
from keras_kd.evaluation.disagreements import FILE as DISAGREEMENTS
from keras_kd.export.formats.variants import file_name
from keras_kd.report import examples
from keras_kd.report.same_runtime import TEACHER_FILE
from keras_kd.workflows.stages import CompressionStages


def artifact_metrics(
    stages: CompressionStages,
    records: list[StageRecord],
    exported: StageRecord,
    teacher_file: StageRecord | None = None,
) -> list[StageRecord]:
    """Measures the files, and times everything side by side.

    Adds the latencies to `records`.

    Args:
        stages: The run that they are of.
        records: The run's models.
        exported: What `stages.export` returned.
        teacher_file: What `stages.teacher_file` returned.

    Returns:
        One record per file; the teacher's is called `TEACHER_FILE`.
    """
    evaluator, folder = stages.evaluator, stages.folder
    # Name of a file's row: its path, its record, what its export measured.
    files = {}
    if teacher_file is not None and teacher_file.artefacts:
        (path,) = (p for p in teacher_file.artefacts if p.endswith(".tflite"))
        taken = teacher_file.metrics["tflite"]
        files[TEACHER_FILE] = folder.directory / path, teacher_file, taken
    model = stages.directory.name
    for kind, taken in exported.metrics.items():
        if kind == "saved_model":
            name, file = "SavedModel", str(taken["version"])
        else:
            file = file_name(model, kind)
            name = file.removeprefix(model)
        files[name] = stages.directory / file, exported, taken
    paths = {name: path for name, (path, *_) in files.items()}

    def make():
        stages.say("measuring the files and timing all models side by side")
        started = time.monotonic()
        measured = {k: evaluator.measure(path) for k, path in paths.items()}
        timed = {
            record.name: evaluator.teacher_model()
            if record.stage == "teacher"
            else _timed(folder, record)
            for record in records
        }
        times = evaluator.latencies(
            {name: one for name, one in timed.items() if one is not None},
            paths,
        )
        record = StageRecord(
            # A run of an earlier version is done, so its name stays.
            "figures",
            "figures",
            metrics={"files": measured, "times": times},
        )
        kept = folder.directory / DISAGREEMENTS
        kept.unlink(missing_ok=True)
        name = list(paths)[-1]
        differing = evaluator.disagreements(paths[name], name)
        if differing is not None:
            differing.save(kept)
            record.artefacts[kept.name] = file_sha256(kept)
        drawn = folder.directory / examples.FILE
        drawn.unlink(missing_ok=True)
        try:
            shown = evaluator.examples(paths[name], examples.SHOWN)
            if shown:
                write_atomically(drawn, examples.render(stages.task, shown))
                record.artefacts[drawn.name] = file_sha256(drawn)
        except Exception as error:  # by a task that anybody may write
            stages.say(f"the task could not draw examples: {error!r}")
        record.seconds = time.monotonic() - started
        return None, record

    # The number counts up with what is measured, so that a run of before
    # measures the new as well.
    depends_on = [4, exported.artefacts] + [
        [record.name, record.settings.get("fingerprint")]
        for record in (*records, teacher_file)
        if record is not None
    ]
    found = folder.run("figures", depends_on, make).metrics
    for record in records:
        record.metrics |= found["times"].get(record.name, {})
    return [
        StageRecord(
            "teacher" if name == TEACHER_FILE else "export",
            name,
            source.settings,
            {**taken, **found["files"][name], **found["times"][name]},
            seconds=source.seconds,
            created=source.created,
        )
        for name, (_, source, taken) in files.items()
    ]


def _timed(folder, record):
    """Returns a model's file, or the model: its own code is here alone."""
    model = folder.model(record)
    return model if custom_classes(model) else folder.model_path(record)
