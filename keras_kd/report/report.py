# SPDX-License-Identifier: Apache-2.0
"""Report: the records of a run, shown. It measures and trains nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from keras_kd.core.leases import sweep
from keras_kd.core.printable import printable
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.records import write_atomically
from keras_kd.core.seals import MALFORMED
from keras_kd.core.seals import DamagedFileError
from keras_kd.core.seals import sealed
from keras_kd.core.seals import unsealed
from keras_kd.data.splits import REPORTED_ON
from keras_kd.evaluation import environment as environments
from keras_kd.evaluation.gain import Gain
from keras_kd.evaluation.gain import gain_of
from keras_kd.report import page
from keras_kd.report import picture
from keras_kd.report import table
from keras_kd.report.lineage import read_lineage
from keras_kd.report.same_runtime import Comparison
from keras_kd.report.same_runtime import compare

_PARTS = {
    *("records", "gain", "comparisons", "notes", "split", "command"),
    *("environment", "lineage", "files"),
}

NO_CONTROL = (
    "No control was trained beside the student, so whether the teacher "
    "helped is not known."
)


class Report:
    """The result of a run: a table, the gain over the control, and notes.

    It only shows what the stages recorded. A figure that was not measured
    is an en dash.

    Args:
        directory: Where `save` writes.
        records: Records of the stages, in any order.
        notes: Sentences to show under the table, such as warnings.
        command: The command that made the run. Defaults to this process'.
        environment: Machine and versions of the run. Defaults to this
            process'.
        lineage: The run's stages. Defaults to those in `directory/stages`.
        split: What accuracies and errors are of: `"test"`, or
            `"validation"` where no test split was given.

    Example:

    ```python
    report = kd.compress(teacher, build_student, data, directory="run")
    print(report)
    Report.load("run").gain.verdict
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        records: Sequence[StageRecord],
        notes: Sequence[str] = (),
        command: str | None = None,
        environment: dict[str, Any] | None = None,
        lineage: Sequence[StageRecord] | None = None,
        split: str = "test",
    ):
        self.directory = pathlib.Path(directory)
        self.records = table.order(records)
        self.notes = list(notes)
        self.split = split
        self.command = command or _this_command()
        self.environment = environment or environments.environment()
        if lineage is None:
            lineage = read_lineage(self.directory, self.records)
        self.lineage = list(lineage)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The table, one `{column title: cell}` per row."""
        header, rows = table.to_cells(self.records)
        return [dict(zip(header, row, strict=True)) for row in rows]

    @property
    def gain(self) -> Gain | None:
        """Distilled minus control over the seeds; `None` without control."""
        return gain_of(self.records, self.split)

    @property
    def comparisons(self) -> list[Comparison]:
        """Each .tflite file against the teacher's, if that was measured."""
        return compare(self.records)

    @property
    def remarks(self) -> list[str]:
        """The sentences under the table.

        The gain comes first, then the files against the teacher's, then the
        notes, and how the figures of the table were taken.
        """
        stages = {record.stage for record in self.records}
        remarks = []
        if self.gain is not None:
            remarks.append(str(self.gain))
        elif "student" in stages and "control" not in stages:
            remarks.append(NO_CONTROL)
        remarks += map(str, self.comparisons)
        remarks += self.notes
        remarks.append(f"Scores: measured on {REPORTED_ON[self.split]}.")
        caption = table.latency_caption(self.records)
        return remarks + ([caption] if caption else [])

    def render(self) -> str:
        """Returns the table and the remarks as text for a terminal."""
        buffer = io.StringIO()
        Console(file=buffer, width=140).print(table.to_rich(self.records))
        lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
        lines += [textwrap.fill(remark, 80) for remark in self.remarks]
        return printable("\n".join(lines).strip("\n"))

    def to_markdown(self) -> str:
        """Returns the whole report as plain Markdown."""
        parts = [
            "# Distillation report",
            table.to_markdown(self.records).strip(),
            *self.remarks,
            "![Accuracy against size and latency](report.png)",
            environments.describe(self.environment),
            f"Command: `{self.command}`",
        ]
        return "\n\n".join(parts) + "\n"

    def to_html(self, image: bytes | None = None) -> str:
        """Returns the whole report as one page that needs nothing else.

        Examples that student and teacher decide otherwise come from
        `directory/stages`, where the run left them.

        Args:
            image: The picture, if it is drawn.
        """
        image = image or picture.render(self.records, self.split)
        return page.render(self, image)

    def save(self) -> pathlib.Path:
        """Writes report.{html,md,png,json}; returns the folder.

        Each file appears whole or not at all; report.json, which `load`
        reads, comes last.
        """
        sweep(self.directory)
        image = picture.render(self.records, self.split)
        write_atomically(self.directory / "report.png", image)
        write_atomically(self.directory / "report.md", self.to_markdown())
        write_atomically(self.directory / "report.html", self.to_html(image))
        gain = self.gain
        content = {
            "records": [record.to_json() for record in self.records],
            "gain": dataclasses.asdict(gain) if gain else None,
            "comparisons": [
                {**dataclasses.asdict(comparison), "text": str(comparison)}
                for comparison in self.comparisons
            ],
            "notes": self.notes,
            "split": self.split,
            "command": self.command,
            "environment": self.environment,
            "lineage": [stage.to_json() for stage in self.lineage],
            "files": {
                name: file_sha256(self.directory / name)
                for name in ("report.png", "report.md", "report.html")
            },
        }
        write_atomically(
            self.directory / "report.json",
            json.dumps(sealed(content), indent=2) + "\n",
        )
        return self.directory

    @classmethod
    def load(cls, directory: str | os.PathLike) -> Report:
        """Reads the report that `save` wrote into `directory`.

        Raises:
            FileNotFoundError: If there is no report.json.
            ValueError: If report.json is not a report, or was changed.
        """
        path = pathlib.Path(directory) / "report.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no report in {str(directory)!r}. Expected the "
                "folder of a finished run, with its report.json, such as "
                "saved_models/digits."
            )
        try:
            content = unsealed(json.loads(path.read_text("utf-8")), path)
            if unknown := set(content) - _PARTS:
                raise ValueError(f"unknown parts {sorted(unknown)}")
            lineage = content.get("lineage")  # older reports have none
            found = cls(
                directory,
                [StageRecord.from_json(one) for one in content["records"]],
                notes=content["notes"],
                command=content["command"],
                environment=content["environment"],
                lineage=lineage and [StageRecord.from_json(o) for o in lineage],
                split=content.get("split", "test"),  # likewise
            )
            found.to_markdown()  # raises unless all of it can be shown
            found.render()
            return found
        except DamagedFileError:
            raise
        except MALFORMED as error:
            raise ValueError(
                f"{path} is not a report. Expected the JSON that Report.save "
                f"writes. Run the report's stages again. Received: {error!r}"
            ) from error

    def __repr__(self):
        return self.render()

    def _repr_markdown_(self):
        remarks = "\n\n".join(self.remarks)
        return f"{table.to_markdown(self.records)}\n{remarks}\n"


def _this_command() -> str:
    program, *arguments = sys.argv
    return shlex.join([pathlib.Path(program).name, *arguments])
