# SPDX-License-Identifier: Apache-2.0
"""MutualStudents: what several answer, and each learns from the rest."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd.core import output_heads
from keras_kd.core import output_kinds
from keras_kd.core.taps import ForwardPass
from keras_kd.distillers.guarded import guard_labels
from keras_kd.distillers.mutual_optimizers import copies
from keras_kd.distillers.own_losses import has_unknown_loss
from keras_kd.distillers.own_losses import kind_by_answers
from keras_kd.distillers.own_losses import unknown_loss_error
from keras_kd.distillers.own_step import check_own_step
from keras_kd.distillers.per_output import Output
from keras_kd.models.ensemble import common_activation
from keras_kd.models.ensemble import mean_prediction


def peer_losses(scores: list, loss, sample_weight=None) -> list:
    """Returns, for every student, the mean loss towards all the others.

    Args:
        scores: Logits `(batch, ..., classes)`, one tensor per student.
        loss: A distillation loss; it lets no gradient into its target.
        sample_weight: `(batch, ...)` weights, or `None`.

    Example:

    ```python
    peer_losses([teacher_logits, student_logits], kd.losses.SoftTargets(1.0))
    ```
    """
    means = []
    for i, own in enumerate(scores):
        others = scores[:i] + scores[i + 1 :]
        values = [loss(other, own, sample_weight) for other in others]
        means.append(sum(values) / len(values))
    return means


class MutualStudents:
    """Students that answer together.

    A plain object, so that Keras does not track the students twice.
    """

    def __init__(self, students: list[keras.Model]):
        self.students = students
        self.activation = common_activation(students)
        _check_distinct(students)
        self.prefixes = [f"student_{i + 1}_" for i in range(len(students))]
        self._passes = [ForwardPass(student, []) for student in students]

    def compile(
        self,
        guard,
        optimizer,
        loss,
        loss_weights,
        metrics,
        weighted,
        *args,
        **kwargs,
    ) -> None:
        """Compiles every student with optimizer and metrics of its own.

        `guard`, `StepChecks`, counts the labels of the first one only: they
        are those of all.
        """
        optimizers = copies(optimizer, len(self.students))
        for student, own in zip(self.students, optimizers, strict=True):
            own_metrics = [_copied(metrics), _copied(weighted)]
            student.compile(
                own, loss, loss_weights, *own_metrics, *args, **kwargs
            )
            guard_labels(student, guard)
            guard = None

    def answers(self, x, training: bool | None) -> list:
        """Runs every student once."""
        return [forward(x, training=training)[0] for forward in self._passes]

    def mean(self, answers: list, loss):
        """Returns the ensemble's answer; `loss` is that of `compile`."""
        kind = self._kind(loss, answers[0])
        head = None
        if kind.form == "probabilities":
            head = "sigmoid" if kind.over == "units" else "softmax"
        mean = mean_prediction(answers, head, kind.over == "units")
        _copy_mask(answers[0], mean)
        return mean

    def scores(self, answers: list, loss) -> list:
        """Returns the answers as logits over classes."""
        kind = self._kind(loss, answers[0])
        scores = []
        for answer in answers:
            logits = output_heads.to_logits(answer, None)
            if kind.form == "probabilities":
                logits = output_kinds.scores(answer, kind, kind.over)
            if kind.over == "units" or logits.shape[-1] == 1:
                logits = output_heads.binary_to_classes(logits)
            _copy_mask(answer, logits)
            scores.append(logits)
        return scores

    def label_losses(self, x, y, answers, sample_weight) -> list:
        """Returns what each `student.fit` would minimise."""
        return [
            student._compute_loss(x, y, answer, sample_weight)
            for student, answer in zip(self.students, answers, strict=True)
        ]

    def apply(self, gradients: list) -> None:
        """Takes a step with every student that has anything to train."""
        for student, own in zip(self.students, gradients, strict=True):
            weights = student.trainable_weights
            if weights:
                pairs = zip(own, weights, strict=True)
                student.optimizer.apply_gradients(pairs)

    def update(self, x, y, answers, losses, sample_weight) -> None:
        """Adds a batch to the metrics of every student."""
        for i, student in enumerate(self.students):
            size = ops.shape(keras.tree.flatten(x)[0])[0]
            student._loss_tracker.update_state(losses[i], size)
            student.compute_metrics(x, y, answers[i], sample_weight)

    def results(self) -> dict:
        """Returns the metrics of all students, by `student_1_...`."""
        return {
            f"{prefix}{key}": value
            for prefix, student in zip(
                self.prefixes, self.students, strict=True
            )
            for key, value in student.get_metrics_result().items()
        }

    def _kind(self, loss, answer):
        # A model without a graph is read by the loss that goes with it.
        names = getattr(self.students[0], "output_names", None)
        loss = output_kinds.loss_of_tap(loss, "output", names)
        kind = output_kinds.trained_kind(self.activation, None, loss)
        if kind.form == "values":
            raise ValueError(
                "MutualDistiller compares class scores, and the students are "
                "fitted to numbers. Expected a loss on class scores, such as a "
                f"cross-entropy. Received: loss={loss!r}"
            )
        output = Output("output", answer, loss=loss)
        kind = kind_by_answers(output, kind)
        if kind.over is None and has_unknown_loss(output):
            raise unknown_loss_error(output)
        return kind


def _copy_mask(source, target):
    mask = getattr(source, "_keras_mask", None)
    if mask is not None:
        target._keras_mask = mask


def _copied(metrics):
    """Returns metrics with a state of their own."""

    def copied(metric):
        if isinstance(metric, keras.metrics.Metric):
            return type(metric).from_config(metric.get_config())
        return metric

    return keras.tree.map_structure(copied, metrics)


def _check_distinct(students):
    if len(students) < 2:
        raise ValueError(
            "Students teach each other, so there must be at least two. "
            f"Received: {len(students)}. For a single one use Distiller."
        )
    owners: dict = {}
    for student in students:
        check_own_step(student)
        for item in (student, *student.variables):
            if id(item) in owners:
                raise ValueError(
                    f"The students '{owners[id(item)].name}' and "
                    f"'{student.name}' are the same object or share weights, "
                    "so they have nothing to learn from each other. Build "
                    "each on its own."
                )
            owners[id(item)] = student
