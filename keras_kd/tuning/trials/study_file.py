# SPDX-License-Identifier: Apache-2.0
"""study.json on disk: read, looked at with what it names, and removed."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from keras_kd.core.records import file_sha256
from keras_kd.core.seals import MALFORMED
from keras_kd.core.stage_cache import fingerprint
from keras_kd.tuning.trials.logs import FILE as LOG
from keras_kd.tuning.trials.trial_record import CONTROL
from keras_kd.tuning.trials.trial_record import TrialRecord

FILE = "study.json"
NAME = re.compile(rf"{CONTROL}|\d+")  # of a trial, and so of its files
_FILE = re.compile(rf"({NAME.pattern})(\.keras|\.weights\.h5)")
AGAIN = (
    "delete that folder to begin again (search has overwrite=True for it, and "
    "`keras-kd search` --overwrite)"
)


def read_study(directory: pathlib.Path) -> dict[str, Any] | None:
    """Returns what is on disk, checked; `None` if there is nothing."""
    path = directory / FILE
    try:
        found = json.loads(path.read_text("utf-8"))
        content = found["study"]
        if found["sha256"] != fingerprint(content):
            raise ValueError("its sha256 is another one")
        for row in content["rows"]:
            TrialRecord(**row)
        for name, digest in content.get("files", {}).items():
            if not _FILE.fullmatch(name) or not isinstance(digest, str):
                raise TypeError(f"it names a file {name!r:.80}")
        return content
    except FileNotFoundError:
        return None
    except MALFORMED as error:
        raise ValueError(
            f"{path} is damaged: {error}. Restore it from a backup, or {AGAIN}."
        ) from error


def problems(directory: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields `(path, problem)` of the state and of the trials' files.

    Of students that were not the best, nothing is kept.

    Args:
        directory: Folder of the search; paths are relative to it.
    """
    try:
        content = read_study(directory)
    except ValueError as error:
        yield FILE, str(error)
        return
    yield FILE, "" if content else "missing: it is the search's state"
    files = (content or {}).get("files", {})
    found = {n for n in files if (directory / "trials" / n).is_file()}
    for name, digest in files.items():
        problem = ""
        if name in found:
            if file_sha256(directory / "trials" / name) != digest:
                problem = f"damaged or changed: {FILE} has its sha256"
        elif name.endswith(".weights.h5"):
            problem = f"missing: {FILE} has its sha256"
        elif not any(n.endswith(".keras") for n in found):
            problem = "missing, and so is every other student"
        if problem or name in found:
            yield f"trials/{name}", problem


def clear(directory: pathlib.Path) -> None:
    """Removes a search: the files that its study names, through no link."""
    names, folders = [FILE], ["trials", "logs"]  # a damaged one names none
    with contextlib.suppress(ValueError, TypeError, KeyError):
        rows = (read_study(directory) or {})["rows"]
        names += ["job.pkl", "workers.log", "search.html", "search.png"]
        for name in (row["name"] for row in rows):
            if NAME.fullmatch(name):
                names += [f"trials/{name}.keras", f"trials/{name}.weights.h5"]
                names.append(f"logs/{name}/{LOG}")
                folders.insert(0, f"logs/{name}")
    for name in names:
        path = directory / name
        inside = [p for p in path.parents if directory in p.parents]
        if not any(p.is_symlink() for p in [path, *inside]):
            path.unlink(missing_ok=True)
    for name in folders:
        with contextlib.suppress(OSError):  # there is something else in it
            (directory / name).rmdir()
