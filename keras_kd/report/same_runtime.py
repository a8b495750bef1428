# SPDX-License-Identifier: Apache-2.0
"""Same runtime: a student's file against its teacher's, both in LiteRT.

A student in LiteRT against a teacher in TensorFlow would owe part of its
speed to the change of the runtime.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras_kd.core.records import StageRecord
from keras_kd.evaluation.gain import ACCURACY
from keras_kd.evaluation.gain import headline_of
from keras_kd.tasks.headline import Headline

TEACHER_FILE = "teacher .tflite"
"""Name of the record of the teacher's float32 file."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a student's .tflite file saves, and what it costs.

    Args:
        name: Name of the student's file, as in the table.
        faster: Median latency of the teacher's file over that of the
            student's; below 1, the student is slower. `None` if not measured.
        smaller: Bytes of the teacher's file over those of the student's.
        points: By how much the student's file is better than the teacher's:
            in percentage points of accuracy, else of the headline or in its
            unit. `None` if not measured.
        batch: Examples at once, when the latency was taken.
        threads: Threads that each had.
        headline: What `points` are of; `None` for accuracy.
    """

    name: str
    faster: float | None
    smaller: float
    points: float | None
    batch: int
    threads: int
    headline: Headline | None = None

    def __str__(self):
        parts = [_times(self.smaller, "smaller", "larger")]
        if self.faster is not None:
            parts.insert(0, _times(self.faster, "faster", "slower"))
        if self.points is not None:
            headline = self.headline or ACCURACY
            told = headline.difference_text(self.points)
            if headline != ACCURACY:
                # Of an error the sign alone would say the contrary.
                told = told.lstrip("+-")
                told += " better" if self.points >= 0 else " worse"
            parts.append(f"{headline.title} {told}")
        threads = (
            "one thread" if self.threads == 1 else f"{self.threads} threads"
        )
        return (
            f"{self.name} against the teacher's float32 .tflite, both in "
            f"LiteRT at batch {self.batch} on {threads}: {', '.join(parts)}."
        )


def _times(ratio, more, less):
    if ratio >= 1:
        return f"{ratio:.1f} times {more}"
    return f"{1 / ratio:.1f} times {less}"


def compare(records: Sequence[StageRecord]) -> list[Comparison]:
    """Compares each of the student's .tflite files with the teacher's.

    Args:
        records: Records of a run. The teacher's file is the one that is
            named `TEACHER_FILE`.

    Returns:
        One `Comparison` per file of the student's, in the records' order;
        none if the teacher's was not measured.

    Example:

    ```python
    for comparison in compare(kd.Report.load("run").records):
        print(comparison)
    ```
    """
    teachers = [r.metrics for r in records if r.name == TEACHER_FILE]
    if not teachers:
        return []
    return [
        _comparison(teachers[0], record)
        for record in records
        if record.stage == "export" and record.name.endswith(".tflite")
    ]


def _comparison(teacher, record):
    student = record.metrics

    def both(metric):
        values = teacher.get(metric), student.get(metric)
        return None if None in values else values

    headline = headline_of([record])
    times, values = both("latency_ms_p50"), both(headline.name)
    return Comparison(
        record.name,
        times and times[0] / times[1],
        teacher["bytes"] / student["bytes"],
        values and headline.better(values[1], than=values[0]),
        student.get("latency_batch", 1),
        student.get("latency_threads", 1),
        None if headline == ACCURACY else headline,
    )
