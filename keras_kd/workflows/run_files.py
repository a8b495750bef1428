# SPDX-License-Identifier: Apache-2.0
"""verify_folder(): whatever keras_kd wrote to a folder, checked anew."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
from collections.abc import Iterator

from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.seals import unsealed
from keras_kd.export.verification.directory import repair_directory
from keras_kd.export.verification.directory import verify_directory
from keras_kd.report import Report
from keras_kd.targets.cache import TeacherCache
from keras_kd.targets.store import manifest as manifests
from keras_kd.training.teacher_targets import targets_folder
from keras_kd.tuning.trials import study_file


def verify_folder(
    directory: str | os.PathLike, trust: bool = False, repair: bool = False
) -> Iterator[tuple[pathlib.Path, str | None]]:
    """Checks what keras_kd wrote to a folder, exported files by running them.

    Args:
        directory: The folder of a run, an export, a search, a teacher cache,
            `born_again` or `teach_through`; or a folder of such folders.
        trust: See `verify_directory`.
        repair: Whether damaged newest versions are moved aside, see
            `repair_directory`.

    Returns:
        An iterator over each version, record, cache, ... with `None` if it is
        sound, or with what is wrong.

    Raises:
        FileNotFoundError: If there is nothing that it knows.
    """
    directory = pathlib.Path(directory)
    exported: Iterator = iter(())
    if not _is_search(directory):  # whose logs are numbered, too
        try:
            check = repair_directory if repair else verify_directory
            exported = iter(check(directory, trust))
        except FileNotFoundError:
            pass
    found = itertools.chain(exported, verify_files(directory))
    first = next(found, None)
    if first is None:
        names = sorted(os.listdir(directory)) if directory.is_dir() else []
        raise FileNotFoundError(
            f"{directory} holds nothing that can be verified. Expected the "
            "folder of a run, an export (numbered version folders or .tflite "
            "files), a search, a teacher cache, born_again or teach_through; "
            "or a folder of such folders. Received: "
            f"{names[:5] if names else 'no such folder, or an empty one'}"
        )
    return itertools.chain([first], found)


def verify_files(
    directory: pathlib.Path,
) -> Iterator[tuple[pathlib.Path, str | None]]:
    """Checks what there is beside exported files, as `verify_folder` does."""
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    below = [directory / name for name in names if name[0] != "."]
    for folder in [directory, *(p for p in below if p.is_dir())]:
        stages = folder / "stages"
        for path in sorted({*stages.glob("*.json"), *_links(folder)}):
            yield path, _problem(_check_record, path)
        caches = [*_caches(targets_folder(stages)), *_own_cache(folder)]
        if _is_search(folder):
            for name, problem in study_file.problems(folder):
                yield folder / name, problem or None
            for path in sorted(folder.glob("confirm/*.json")):
                yield path, _problem(_check_record, path)
            caches += _caches(targets_folder(folder))
        for path in caches:
            yield path, _problem(_check_targets, path)
        if any(folder.glob("report.*")):
            yield folder / "report.json", _problem(_check_report, folder)


def _is_search(folder):
    names = (study_file.FILE, "search.html")
    return any((folder / name).is_file() for name in names)


def _links(folder):
    """Records of born_again and teach_through, also where they are gone."""
    kept = [*folder.glob("generation-*"), *folder.glob("link-*")]
    return [p.with_suffix(".json") for p in kept if p.suffix in _KEPT]


_KEPT = (".json", ".keras")


def _caches(folder):
    # With a file in them: caches, whichever of their files are gone.
    return sorted({p.parent for p in folder.glob("*/*.json")})


def _own_cache(folder):
    is_one = (folder / manifests.SETTINGS).is_file()
    is_one = is_one or (folder / manifests.SHARDS).is_dir()
    return [folder] if is_one else []


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
