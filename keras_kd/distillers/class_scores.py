# SPDX-License-Identifier: Apache-2.0
"""ClassScores: what a loss on class scores compares, as logits of one kind."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.core import output_heads
from keras_kd.core import output_kinds
from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.output_kinds import are_distributions
from keras_kd.core.taps import ForwardPass
from keras_kd.distillers.forms_by_values import FormByValues
from keras_kd.distillers.own_losses import has_unknown_loss
from keras_kd.distillers.own_losses import kind_by_answers
from keras_kd.distillers.own_losses import unknown_loss_error
from keras_kd.distillers.per_output import Output
from keras_kd.losses import sparse
from keras_kd.losses.base import DistillationLoss
from keras_kd.tasks.base import Task
from keras_kd.tasks.distilling import over_by_task

_SPARSE = OutputKind("logits", "classes")
_OTHERWISE = (
    ", or say it beside your own: task=kd.tasks.Classification(), "
    "kd.tasks.MultiLabel(), or a dict of tasks by output. For numbers use "
    "distillation_losses=kd.losses.Regression()"
)


class ClassScores:
    """Brings the two taps of a loss to comparable logits.

    What an output is comes from its last layer, its label loss and what the
    user said; where all are silent, its values decide in each step.

    Args:
        loss: The distillation loss.
        teacher: The teacher, `None` if targets come with the data.
        student_pass: The student's forward pass.
        outputs: What was said of the student's outputs.
        is_default: Whether nobody asked for this loss.
        task: What the student's outputs mean, if that was said.
    """

    def __init__(
        self,
        loss: DistillationLoss,
        teacher: Any,
        student_pass: ForwardPass,
        outputs: str | dict | None,
        is_default: bool,
        task: Task | None = None,
    ):
        self._loss = loss
        self._teacher = teacher
        self._student_pass = student_pass
        self._said = output_kinds.said(outputs, loss.student)
        self._is_default = is_default
        names = getattr(student_pass.model, "output_names", None) or ()
        self._over_by_task = over_by_task(task, loss.student, names)
        self._forms = FormByValues("teacher"), FormByValues("student")

    def kinds(
        self,
        label_loss: Any,
        key: str | None = None,
        live: bool = True,
        at_hand: bool = True,
    ) -> tuple[OutputKind, OutputKind]:
        """Returns the teacher's and the student's kind.

        Args:
            label_loss: That of the student's output, `None` if there is none.
            key: What attached targets say that they are.
            live: Whether the teacher gives the targets.
            at_hand: Whether there are targets to look at yet.

        Raises:
            ValueError: If one gives no class scores, or nothing says that
                they do.
        """
        activation = self._student_pass.activation(self._loss.student)
        student = output_kinds.trained_kind(activation, self._said, label_loss)
        if student.over is None:
            student = student._replace(over=self._over_by_task)
        teacher = output_kinds.TARGETS.get(key, OutputKind())
        if live and self._teacher is not None:
            teacher = self._teacher.kind_of(self._loss.teacher)
        name = type(self._loss).__name__
        for whose, kind in (("student", student), ("teacher", teacher)):
            if kind.form == "values":
                raise ValueError(
                    f"{name} compares class scores, and the {whose}'s output "
                    "is values: so says its label loss, or `outputs`. Expected "
                    "a loss that fits values: distillation_losses="
                    "kd.losses.Regression(), or FeatureMatching() of a layer. "
                    "If it is class scores, say so: outputs='logits'."
                )
        is_known = {"logits", "probabilities"} & {teacher.form, student.form}
        if self._is_default and not is_known and at_hand:
            raise ValueError(
                "Nothing says that the outputs are class scores, which the "
                f"default loss {name} compares: no softmax or sigmoid, and "
                "no label loss. Say so by kd.Distiller(..., outputs='logits') "
                "or a `temperature`; for numbers that are no class scores use "
                "distillation_losses=kd.losses.Regression()."
            )
        return teacher, student

    def compared(
        self,
        teacher: Any,
        student: Any,
        kinds: tuple,
        guard: Any,
        output: Output | None = None,
    ) -> tuple:
        """Returns both sides as logits; see `output_heads.comparable`.

        Args:
            teacher: The target: a tensor `(batch, ..., n)` or a sparse one.
            student: Tensor `(batch, ..., n)`.
            kinds: What `kinds` returned.
            guard: A `StepChecks`.
            output: The student's output that this is.

        Raises:
            ValueError: If it is not certain what its units are.
        """
        theirs, ours = kinds
        if sparse.is_sparse(teacher):
            theirs = _SPARSE
        ours = kind_by_answers(output, ours)
        over = self._over(teacher, theirs, student, ours)
        if over is None and has_unknown_loss(output):
            if ours.form is not None:
                raise unknown_loss_error(output, _OTHERWISE)
            ours = OutputKind("probabilities")  # whose rows must sum to 1
        student = self._logits(1, student, ours, over, guard)
        if sparse.is_sparse(teacher):
            if self._loss.accepts_sparse and over != "units":
                return teacher, student
            teacher = sparse.to_dense(teacher, student.shape[-1])
        own_over = over
        if (teacher.shape[-1], student.shape[-1]) == (2, 1):
            own_over = "classes"
        if (teacher.shape[-1], student.shape[-1]) == (1, 2):
            own_over = "units"
        teacher = self._logits(0, teacher, theirs, own_over, guard)
        return output_heads.comparable(teacher, student, over == "units")

    def _over(self, teacher, theirs, student, ours):
        """Returns what the student learns: `"classes"`, `"units"`, `None`."""
        if student.shape[-1] == 1:
            return "units"
        if ours.over == "classes" and theirs.over == "units":
            if not sparse.is_sparse(teacher) and teacher.shape[-1] > 1:
                raise ValueError(
                    "The teacher's output is yes/no units of their own, the "
                    "student's one class of several, so that their "
                    "probabilities do not sum to 1. Expected both alike. "
                    "Received: a teacher over units, a student over classes. "
                    "End the student in sigmoid units, or have the teacher's "
                    "scaled to the sum 1: "
                    "kd.teachers.FrozenTeacher(model, activation='softmax')."
                )
        return ours.over or theirs.over

    def _logits(self, side, output, kind, over, guard):
        form = self._forms[side]
        if kind.form is None:
            kept = getattr(output, "_keras_logits", None)
            if kept is not None:  # so Keras applied a softmax or a sigmoid
                kind = OutputKind("probabilities", kind.over)
            else:
                return self._by_values(form, output, kind, over, guard)
        if kind == OutputKind("probabilities"):
            self._check_probabilities(output, over, guard)
        return output_kinds.scores(output, kind, over)

    def _by_values(self, form, output, kind, over, guard):
        output = ops.cast(output, "float32")
        is_probable, output = form.are_probabilities(output, guard)
        # Rows that sum to 1 are of classes, whatever they teach.
        as_classes = OutputKind("probabilities", "classes")
        from_probabilities = output_kinds.scores(output, as_classes, over)
        return ops.where(is_probable, from_probabilities, output)

    def _check_probabilities(self, output, over, guard):
        values = ops.cast(output, "float32")
        inside = ops.logical_and(ops.min(values) >= 0.0, ops.max(values) <= 1.0)
        bad = ops.logical_not(inside)
        if over != "units" and output.shape[-1] != 1:
            bad = ops.logical_not(are_distributions(values))
        guard.count_range("units" if over == "units" else "sums", bad, values)
