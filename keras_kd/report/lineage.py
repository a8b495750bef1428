# SPDX-License-Identifier: Apache-2.0
"""Lineage: each stage of a run, with its settings and the files it wrote."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from keras_kd.core.records import StageRecord


def read_lineage(
    directory: str | os.PathLike, records: Sequence[StageRecord]
) -> list[StageRecord]:
    """Reads the stages that a run left in `directory/stages`.

    Args:
        directory: The run's folder.
        records: Rows of its report. Stages of another run in the same
            folder, such as those of seeds no longer used, are left out.

    Returns:
        Records without figures, in the order they were made, each under
        the name of its file; artefacts are relative to `directory`. Without
        that folder, the rows that name settings or files.
    """
    folder = pathlib.Path(directory) / "stages"
    seeds = {record.stage: record.metrics.get("seeds") for record in records}
    found = []
    for path in folder.glob("*.json"):
        try:
            stage = StageRecord.load(path)
        except ValueError:  # written anew by the next run
            continue
        if _belongs(stage, seeds):
            found.append(_plain(stage, path.stem, folder.name))
    if not found:
        found = [
            _plain(record, record.name, "")
            for record in records
            if record.settings or record.artefacts
        ]
    return sorted(found, key=lambda stage: stage.created)


def _belongs(stage, seeds):
    if stage.stage not in ("control", "student", "prune"):
        return stage.stage != "dry run"
    wanted = seeds.get(stage.stage, ())
    return wanted is None or stage.settings.get("seed") in wanted


def _plain(record, name, folder):
    artefacts = {
        pathlib.PurePath(
            os.path.normpath(os.path.join(folder, path))
        ).as_posix(): digest
        for path, digest in record.artefacts.items()
    }
    return dataclasses.replace(
        record, name=name, metrics={}, artefacts=artefacts
    )
