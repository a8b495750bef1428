# SPDX-License-Identifier: Apache-2.0
"""Composite: a task for each output of a model with several."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_kd import losses
from keras_kd.core import output_heads
from keras_kd.tasks.base import Meter
from keras_kd.tasks.base import Task
from keras_kd.tasks.headline import Headline
from keras_kd.tasks.reading import FORMS


class Composite(Task):
    """A task for each output, one of which gives the headline.

    Figures are named as Keras names those of several outputs, such as
    `"sizes_mean_absolute_error"`; of a single task they keep their names, so
    a dict of one task is that task.

    Args:
        tasks: `{output name: task}`.
        headline: Name of the output that chooses and judges; needed if there
            are several.

    Raises:
        ValueError: If the headline is not among the outputs.

    Example:

    ```python
    task = kd.tasks.Composite(
        {"kind": kd.tasks.Classification(), "size": kd.tasks.Regression()},
        headline="kind",
    )
    task.headline.name  # "kind_accuracy"
    ```
    """

    def __init__(self, tasks: Mapping[str, Task], headline: str | None = None):
        self.tasks = dict(tasks)
        if headline is None and len(self.tasks) == 1:
            (headline,) = self.tasks
        if headline not in self.tasks:
            raise ValueError(
                "`headline` must name the output whose task chooses and "
                f"judges: one of {sorted(self.tasks)}. "
                f"Received: headline={headline!r}"
            )
        self.judging: str = headline

    def __eq__(self, other):
        return (
            isinstance(other, Composite)
            and self.tasks == other.tasks
            and self.judging == other.judging
        )

    def __hash__(self):
        return hash((self.judging, *self.tasks))

    def __repr__(self):
        return f"Composite({self.tasks!r}, headline={self.judging!r})"

    @property
    def headline(self):
        own = self.tasks[self.judging].headline
        name = self.figure(self.judging, own.name)
        return Headline(name, own.direction, own.unit)

    @property
    def agreement(self):
        return self.tasks[self.judging].agreement

    @property
    def panels(self):
        return self.tasks[self.judging].panels

    @property
    def headlines(self):
        return tuple(
            dataclasses.replace(
                task.headline, name=self.figure(name, task.headline.name)
            )
            for name, task in self.tasks.items()
        )

    def figure(self, output: str, name: str) -> str:
        """Returns what an output's figure is called."""
        return f"{output}_{name}" if len(self.tasks) > 1 else name

    def label_loss(self, student, output=None):
        losses = {n: t.label_loss(student, n) for n, t in self.tasks.items()}
        if getattr(student, "inputs", None) is None:
            return losses
        # Keras wants to be told of every output, also that it has no loss.
        names = output_heads.named_outputs(student)
        return {**dict.fromkeys(names), **losses} if len(names) > 1 else losses

    def metrics(self, student, output=None):
        return {n: t.metrics(student, n) for n, t in self.tasks.items()}

    def distillation_losses(self):
        return [
            _between_outputs(loss, name, self.figure(name, loss.name))
            for name, task in self.tasks.items()
            for loss in task.distillation_losses()
        ]

    def _by_output(self, said):
        """Returns what was said of outputs by name; one word is for all."""
        plain = not isinstance(said, Mapping)
        return dict.fromkeys(self.tasks, said) if plain else said

    def meter(self, outputs=None, teacher_outputs=None):
        given = outputs, teacher_outputs
        return CompositeMeter(self, *map(self._by_output, given))

    def draw(self, axes, x, label, teacher, student):
        name = self.judging
        self.tasks[name].draw(
            axes, x, label[name], teacher[name], student[name]
        )


class CompositeMeter(Meter):
    """A meter for each output."""

    def __init__(self, task, outputs, teacher_outputs):
        self.task = task
        self.meters = {
            name: each.meter(outputs.get(name), teacher_outputs.get(name))
            for name, each in task.tasks.items()
        }

    def update(
        self,
        outputs,
        labels,
        teacher_outputs=None,
        sample_weight=None,
        mask=None,
    ):
        for name, meter in self.meters.items():
            meter.update(
                self._part(outputs, name, "outputs"),
                self._part(labels, name, "labels"),
                teacher_outputs
                and self._part(teacher_outputs, name, "teacher_outputs"),
                _one_of(sample_weight, name),
                _one_of(mask, name),
            )

    def result(self):
        figures = {}
        for name, meter in self.meters.items():
            found = meter.result()
            figures |= {self.task.figure(name, k): v for k, v in found.items()}
            if name == self.task.judging and "agreement" in found:
                figures["agreement"] = found["agreement"]
        return figures

    def _part(self, parts: Any, name: str, what: str) -> Any:
        if isinstance(parts, Mapping):
            # A file answers with `kind_logits` and `kind_probabilities`.
            forms = {f: parts.get(f"{name}_{f}") for f in FORMS}
            found = {f: part for f, part in forms.items() if part is not None}
            parts = {**parts, name: found} if found else parts
        if not isinstance(parts, Mapping) or name not in parts:
            if len(self.meters) == 1:  # files name a single output otherwise
                return parts
            received = (
                sorted(parts) if isinstance(parts, Mapping) else type(parts)
            )
            raise ValueError(
                f"`{what}` must be a dict with {name!r}, since the task has "
                f"an output of that name. Received: {received}"
            )
        return parts[name]


def parts_for(task: Task | None, parts: Any) -> Any:
    """Returns labels or weights as a task takes them.

    Those of a sole output may stand in a dict, which a task of that output
    does not know; a dict of tasks does.
    """
    is_sole = isinstance(parts, Mapping) and len(parts) == 1
    if not is_sole or isinstance(task, Composite):
        return parts
    return next(iter(parts.values()))


def _one_of(parts, name):
    return parts.get(name) if isinstance(parts, Mapping) else parts


def _between_outputs(loss: losses.DistillationLoss, output: str, name: str):
    """Returns the loss between the outputs of this name, called `name`."""
    taps = {"teacher": output, "student": output, "name": name}
    return type(loss).from_config({**loss.get_config(), **taps})
