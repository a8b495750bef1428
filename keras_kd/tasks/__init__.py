# SPDX-License-Identifier: Apache-2.0
"""Tasks: what outputs and labels mean, and what is good; one task, one file."""

from __future__ import annotations

from collections.abc import Mapping

from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.classification import Classification
from keras_kd.tasks.composite import Composite
from keras_kd.tasks.detection import Detection
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.inferring import infer
from keras_kd.tasks.language_model import LanguageModel
from keras_kd.tasks.multi_label import MultiLabel
from keras_kd.tasks.recommendation import Recommendation
from keras_kd.tasks.regression import Regression
from keras_kd.tasks.retrieval import Retrieval
from keras_kd.tasks.segmentation import Segmentation
from keras_kd.tasks.tagging import Tagging
from keras_kd.tasks.transcription import Transcription

TASKS = (
    Classification,
    Detection,
    LanguageModel,
    MultiLabel,
    Recommendation,
    Regression,
    Retrieval,
    Segmentation,
    Tagging,
    Transcription,
)
"""Every task of one output, by its class. A new one is added here."""

__all__ = [
    "Classification",
    "Composite",
    "Detection",
    "Headline",
    "LanguageModel",
    "Meter",
    "MultiLabel",
    "Recommendation",
    "Regression",
    "Retrieval",
    "Segmentation",
    "TASKS",
    "Tagging",
    "Task",
    "Transcription",
    "get",
    "infer",
]


def get(task: Task | Mapping[str, Task], headline: str | None = None) -> Task:
    """Returns a task, or the one that a dict of tasks by output stands for.

    Args:
        task: A `Task`, or `{output name: task}`.
        headline: Output whose task chooses and judges, of several.

    Raises:
        ValueError: If it is neither, or the headline is missing or unknown.

    Example:

    ```python
    parts = {"kind": kd.tasks.Classification(), "size": kd.tasks.Regression()}
    kd.tasks.get(parts, headline="kind").headline.name  # "kind_accuracy"
    ```
    """
    if isinstance(task, Task):
        if headline is not None:
            raise ValueError(
                "`headline` names an output of a dict of tasks. Received: "
                f"headline={headline!r} with {task!r}"
            )
        return task
    if isinstance(task, Mapping) and all(
        isinstance(part, Task) for part in task.values()
    ):
        return Composite(task, headline)
    raise ValueError(
        "`task` must be a task, such as kd.tasks.Classification(), or a dict "
        f"of tasks by output. Received: {task!r}"
    )
