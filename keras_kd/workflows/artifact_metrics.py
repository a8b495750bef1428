# SPDX-License-Identifier: Apache-2.0
"""figures(): all of a run's models and files, measured side by side."""

from __future__ import annotations

import pathlib
import time

from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.evaluation.disagreements import FILE as DISAGREEMENTS
from keras_kd.export.formats.variants import file_name
from keras_kd.report.same_runtime import TEACHER_FILE
from keras_kd.workflows.stages import Run
from keras_kd.workflows.stages import say


def figures(
    run: Run,
    records: list[StageRecord],
    exported: StageRecord,
    teacher_file: StageRecord | None = None,
) -> list[StageRecord]:
    """Measures the files, and times everything side by side.

    Adds the latencies to `records`.

    Args:
        run: Whose stages and teacher they are.
        records: The run's models.
        exported: What `run.export` returned.
        teacher_file: What `run.teacher_file` returned.

    Returns:
        One record per file; the teacher's is called `TEACHER_FILE`.
    """
    files = {}  # name to path, and to the figures that its export took
    if teacher_file is not None and teacher_file.artefacts:
        (file,) = teacher_file.artefacts
        path = run.stages.directory / file
        files[TEACHER_FILE] = path, teacher_file.metrics["tflite"]
    for kind, taken in exported.metrics.items():
        if kind == "saved_model":
            path = run.directory / str(taken["version"])
            files["SavedModel"] = path, taken
        else:
            file = file_name(run.directory.name, kind)
            name = file.removeprefix(run.directory.name)
            files[name] = run.directory / file, taken
    paths = {name: path for name, (path, _) in files.items()}

    def make():
        say("measuring the files and timing all models side by side")
        started = time.monotonic()
        measured = {k: run.evaluator.measure(path) for k, path in paths.items()}
        timed = {r.name: _artefact(run, r) for r in records} | paths
        timed = {k: v for k, v in timed.items() if v is not None}
        times = run.evaluator.latencies(timed)
        record = StageRecord(
            "figures", "figures", metrics={"files": measured, "times": times}
        )
        name = list(paths)[-1]
        _keep_disagreements(run, paths[name], name, record)
        record.seconds = time.monotonic() - started
        return None, record

    # The number counts up with the figures taken, so that a run of before
    # takes the new ones.
    depends_on = [3, exported.artefacts] + [
        [record.name, record.settings.get("fingerprint")]
        for record in (*records, teacher_file)
        if record is not None
    ]
    found = run.stages.run("figures", depends_on, make).metrics
    for record in records:
        record.metrics |= found["times"].get(record.name, {})
    return [
        _record(
            name,
            teacher_file if name == TEACHER_FILE else exported,
            {**taken, **found["files"][name], **found["times"][name]},
        )
        for name, (_, taken) in files.items()
    ]


def _record(name, source, metrics):
    return StageRecord(
        "teacher" if name == TEACHER_FILE else "export",
        name,
        source.settings,
        metrics,
        seconds=source.seconds,
        created=source.created,
    )


def _keep_disagreements(
    run: Run, path: pathlib.Path, name: str, record: StageRecord
) -> None:
    differing = run.evaluator.disagreements(path, name)
    kept = run.stages.directory / DISAGREEMENTS
    kept.unlink(missing_ok=True)
    if differing is not None:
        differing.save(kept)
        record.artefacts[kept.name] = file_sha256(kept)


def _artefact(run, record):
    if record.stage == "teacher":
        return run.evaluator.teacher_model()
    if record.stage == "prune":
        return run.stages.path("pruned")
    return run.stages.path(f"{record.stage}-{record.settings['seed']}")
