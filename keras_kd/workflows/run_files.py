# SPDX-License-Identifier: Apache-2.0
"""verify_stages(): what a run wrote beside its models, checked anew."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator

from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.seals import unsealed
from keras_kd.report import Report
from keras_kd.targets.cache import TeacherCache
from keras_kd.training.teacher_targets import targets_folder


def verify_stages(
    directory: str | os.PathLike,
) -> Iterator[tuple[pathlib.Path, str | None]]:
    """Checks the report, the records of stages, their files and targets.

    Args:
        directory: A run's folder, or a folder of such folders.

    Yields:
        Each record, cache and report with `None` if it is sound, or with
        what is wrong. Nothing where there is none.
    """
    directory = pathlib.Path(directory)
    runs = [p for p in sorted(directory.iterdir()) if p.is_dir()]
    for run in [directory, *runs]:
        stages = run / "stages"
        for path in sorted(stages.glob("*.json")):
            yield path, _problem(_check_record, path)
        # With a file in them: caches, whichever of their files are gone.
        caches = {p.parent for p in targets_folder(stages).glob("*/*.json")}
        for path in sorted(caches):
            yield path, _problem(_check_targets, path)
        if any(run.glob("report.*")):
            yield run / "report.json", _problem(_check_report, run)


def _problem(check, path):
    try:
        check(path)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _check_record(path):
    record = StageRecord.load(path)
    _compare(path, record.artefacts)


def _check_targets(folder):
    for path, problem in TeacherCache.open(folder).verify():
        if problem:
            raise ValueError(f"{path}: {problem}")


def _check_report(run):
    report, path = Report.load(run), run / "report.json"
    content = unsealed(json.loads(path.read_text("utf-8")), path)
    _compare(path, content.get("files", {}))  # older reports name none
    for record in report.lineage:
        file = run / "stages" / f"{record.name}.json"
        if file.parent.is_dir() and not file.exists():
            raise ValueError(f"{file} is missing: {path.name} speaks of it.")


def _compare(path, files):
    for name, digest in files.items():
        file = path.parent / name
        if not file.is_file() or file_sha256(file) != digest:
            what = "is damaged" if file.is_file() else "is missing"
            raise ValueError(f"{file} {what}: {path.name} has its sha256.")
