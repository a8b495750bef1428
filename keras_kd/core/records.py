# SPDX-License-Identifier: Apache-2.0
"""StageRecord: what one stage did, in plain JSON, written atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import stat
import time
from typing import Any

from keras_kd.core.folders import telling_of_a_full_disk
from keras_kd.core.leases import temporary_name
from keras_kd.core.seals import MALFORMED
from keras_kd.core.seals import SEAL
from keras_kd.core.seals import DamagedFileError
from keras_kd.core.seals import sealed
from keras_kd.core.seals import unsealed


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file so that a reader sees the old content or the new one.

    The content goes to a temporary name in the same folder, is flushed to
    the disk, and takes its final name by one rename. A crash or a full disk
    leaves the old file as it was. Text is written as UTF-8, and the folder
    is created if needed.
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: str | os.PathLike):
    """Yields a temporary path that becomes `path` if the block succeeds.

    For writers that take a file name, such as `model.save`. The temporary
    name keeps the suffix of `path`, since Keras chooses the format by it.
    The folder is created if needed.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(name=path.name))
    try:
        with telling_of_a_full_disk(path.parent):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike) -> None:
    """Flushes a folder's entries, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file, read in pieces.

    Raises:
        OSError: If there is none, or something that may never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileNotFoundError(f"{path} is not a file. Expected one to read.")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass
class StageRecord:
    """What one stage did: its settings, figures and files.

    A stage takes (model, data, options) and returns (model or path, record).
    The report only reads records, so a run can be reported again without
    being run again.

    Args:
        stage: Kind of stage: `"teacher"`, `"control"`, `"student"`,
            `"prune"`, `"export"`.
        name: Row name in the report, for example `"pruned"`.
        settings: The options the stage ran with, as plain JSON values.
        metrics: Figures it measured. Names carry the unit
            (`"latency_ms_p50"`), accuracies are fractions in [0, 1].
        artefacts: Files it wrote: path (relative to the run directory) to
            sha256.
        seconds: Wall time of the stage.
        created: Seconds since the epoch at which the record was made.

    Example:

    ```python
    record = StageRecord("prune", "pruned", metrics={"sparsity": 0.8})
    record.save("run/prune.json")
    StageRecord.load("run/prune.json").metrics["sparsity"]
    ```
    """

    stage: str
    name: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    artefacts: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    created: float = dataclasses.field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> StageRecord:
        """Returns the record of what `to_json` gave.

        Raises:
            TypeError: If a value is of another kind.
        """
        record = cls(**content)
        kinds: dict[str, Any] = {"stage": str, "name": str}
        kinds |= dict.fromkeys(("settings", "metrics", "artefacts"), dict)
        kinds |= dict.fromkeys(("seconds", "created"), (int, float))
        for part, kind in kinds.items():
            if not isinstance(getattr(record, part), kind):
                raise TypeError(f"`{part}` is {getattr(record, part)!r:.80}")
        if not all(isinstance(d, str) for d in record.artefacts.values()):
            raise TypeError("an artefact has no sha256")
        return record

    def save(self, path: str | os.PathLike) -> None:
        """Writes the record to `path`, atomically, with its own checksum."""
        text = json.dumps(sealed(self.to_json()), indent=2)
        write_atomically(path, text + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> StageRecord:
        """Reads a record that `save` wrote.

        Raises:
            ValueError: If the file is not a stage record, or was changed
                (`DamagedFileError`).
        """
        text = pathlib.Path(path).read_bytes()
        try:
            content = json.loads(text.decode("utf-8"))
            record = cls.from_json(unsealed(content, path))
            # An earlier version wrote neither of the two.
            if "made_with" in record.settings and SEAL not in content:
                raise TypeError("its checksum is missing")
            return record
        except DamagedFileError:
            raise
        except MALFORMED as error:
            raise ValueError(
                f"{path} is not a stage record. Expected the JSON that "
                "StageRecord.save writes. Delete the file to run its stage "
                f"again. Received: {error}"
            ) from error
