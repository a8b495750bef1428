# SPDX-License-Identifier: Apache-2.0
"""LossTerms: the distillation losses between one teacher and one student."""

from __future__ import annotations

import functools

import keras
from keras import ops

from keras_kd import teachers
from keras_kd.core import output_kinds
from keras_kd.core.scalars import Scalar
from keras_kd.core.taps import ForwardPass
from keras_kd.core.taps import for_taps
from keras_kd.core.taps import shape_of
from keras_kd.distillers.class_ids import ids_of_output
from keras_kd.distillers.class_scores import ClassScores
from keras_kd.distillers.compatibility import check_alike
from keras_kd.distillers.compatibility import check_known_shapes
from keras_kd.distillers.compatibility import check_not_itself
from keras_kd.distillers.compatibility import losses_by_name
from keras_kd.distillers.per_output import distilled_mask
from keras_kd.distillers.per_output import output_of_tap
from keras_kd.distillers.per_output import weight_of_tap
from keras_kd.distillers.step_sizes import of_one_size
from keras_kd.distillers.step_targets import StepTargets
from keras_kd.distillers.step_targets import opened
from keras_kd.losses import sparse
from keras_kd.targets.attached import SAMPLE_INDEX
from keras_kd.teachers.base import MEMBERS


class LossTerms:
    """Which taps the losses need, and their values in a step.

    A plain object, so that Keras tracks neither the teacher nor the tapped
    view of the student as layers.
    """

    def __init__(
        self,
        teacher,
        student: keras.Model,
        losses,
        outputs=None,
        default=False,
        task=None,
    ):
        self.losses = losses_by_name(losses)
        self.agreements = _agreements(self.losses.values())
        self.default = default
        self.given_teacher = teacher
        self.teacher = teachers.get(teacher)
        self._own_taps = {}
        losses = self.losses.values()
        if self.teacher is not None:
            names = [name for loss in losses for name in loss.taps[0]]
            self.teacher = self.teacher.ready_for(names, student)
            own = {name: self.teacher.student_tap(name) for name in names}
            self._own_taps = {k: tap for k, tap in own.items() if tap}
        taps = [name for loss in losses for name in loss.taps[1]]
        self.student_pass = ForwardPass(
            student, [*taps, *self._own_taps.values()]
        )
        if self.teacher is not None:
            for loss in losses:
                check_not_itself(loss, self._own_taps)
                check_known_shapes(loss, self.teacher, self.student_pass)
        given = self.teacher, self.student_pass, outputs, default, task
        self._class_scores = {
            name: ClassScores(loss, *given)
            for name, loss in self.losses.items()
            if loss.logits
        }

    def check_kinds(self, label_loss) -> None:
        """Raises if a loss on class scores is given none, as far as known.

        Args:
            label_loss: The `loss` of `compile`.
        """
        for name, scores in self._class_scores.items():
            loss = self._loss_of(self.losses[name].student, label_loss)
            scores.kinds(loss, at_hand=self.teacher is not None)

    def _loss_of(self, tap, label_loss):
        names = getattr(self.student_pass.model, "output_names", None)
        return output_kinds.loss_of_tap(label_loss, tap, names)

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the teacher's part of the step."""
        return self.teacher is None or self.teacher.supports_jit

    def make_projectors(
        self, targets: dict | None = None, taps: dict | None = None
    ) -> dict | None:
        """Returns `{loss name: layer}`, or `None` while shapes are unknown.

        Shapes that come with the data are read off the tensors of the
        teacher's taps (`targets`) and of the student's (`taps`).
        """

        def teacher_shape(tap):
            if targets and tap in targets:
                return tuple(targets[tap].shape)
            return self.teacher and self.teacher.shape(tap)

        def student_shape(tap):
            shape = self.student_pass.shape(tap)
            return tuple(taps[tap].shape) if taps and shape is None else shape

        projectors = {}
        for name, loss in self.losses.items():
            if loss.projector is None:
                continue
            teacher = for_taps(loss.teacher, teacher_shape)
            student = for_taps(loss.student, student_shape)
            if teacher is None or student is None:
                return None
            layer = loss.make_projector(teacher, student, f"{name}_projector")
            if layer is not None:
                projectors[name] = layer
        return projectors

    def with_temperature(self) -> list:
        """Returns the losses that have a temperature."""
        losses = self.losses.values()
        found = [loss for loss in losses if hasattr(loss, "temperature")]
        if not found:
            raise ValueError(
                "None of the distillation losses has a temperature. "
                f"Received: {list(self.losses)}"
            )
        return found

    def targets(self, x, attached: dict | None, guard) -> StepTargets:
        """Returns the targets of a batch: checked by `guard`, no gradient.

        The teacher is not run where targets came with the data (`attached`).
        """
        attached = dict(attached or {})
        index = attached.pop(SAMPLE_INDEX, None)
        if not attached and self.teacher is None:
            raise ValueError(
                "There is no teacher. Set `distiller.teacher = ...` (a saved "
                "distiller does not contain it), or give data with attached "
                "targets."
            )
        if not attached and self._own_taps:
            # The student's pass has them.
            return StepTargets({}, index=index, guard=guard)
        targets, keys = attached, {}
        if attached:
            targets, keys = opened(attached, self.losses, self.student_pass)
        targets = guard.finite(targets or self.teacher(x))
        for loss in self.losses.values():
            reads_classes = loss.logits or loss.accepts_sparse
            target = targets.get(loss.teacher) if reads_classes else None
            if sparse.is_sparse(target):
                temperature = Scalar.of(loss, "temperature", 1.0)
                if loss.accepts_sparse:
                    differs = sparse.differs(target, temperature)
                    guard.count("temperature", differs)
                targets[loss.teacher] = self._known_ids(loss, target, guard)
        targets = keras.tree.map_structure(ops.stop_gradient, targets)
        return StepTargets(targets, bool(attached), index, keys, guard)

    def values(
        self,
        targets: StepTargets,
        taps: dict,
        projectors: dict,
        outputs: list,
    ):
        """Returns `({loss name: scalar}, {key: agreement})` of a batch.

        An agreement is a pair (0/1 values, mask): whether teacher and student
        choose the same class of an output; none without a loss on class
        scores. `outputs`, the `Output`s of the student, tell what they are,
        their labels and weights.
        """
        values, agreement = {}, {}
        # A loss lets no gradient into its targets, so none in these either.
        given = targets.taps
        if not targets.attached:
            own = {k: taps[tap] for k, tap in self._own_taps.items()}
            given = {**own, **given}
        for name, loss in self.losses.items():
            check_alike(loss, self._heads(loss, targets.attached))
            teacher = for_taps(
                loss.teacher,
                functools.partial(targets.target, given, loss),
            )
            student = for_taps(loss.student, taps.get)
            combines = loss.logits and MEMBERS in given
            if combines:
                teacher = given[MEMBERS]
            output = output_of_tap(outputs, loss.student)
            mask = distilled_mask(getattr(student, "_keras_mask", None), output)
            if name in projectors:
                index = _index(loss, targets.index)
                layer = projectors[name]
                student = loss.project(layer, teacher, student, index)
            if loss.logits:
                pair = teacher, student
                teacher, student = self._scores(name, pair, targets, output)
                if combines:
                    ids = None
                    if self.teacher.label_aware:
                        ids = ids_of_output(loss, outputs, student.shape)
                    temperature = Scalar.of(loss, "temperature", 1.0)
                    teacher = self.teacher.combine(teacher, temperature, ids)
            student = of_one_size(loss, teacher, student, targets.guard)
            if not sparse.is_sparse(teacher):
                loss.check_shapes(*map(shape_of, (teacher, student)))
            key = self.agreements.get(loss.student) if loss.logits else None
            if key and key not in agreement:
                same = sparse.top_class(teacher) == ops.argmax(student, -1)
                agreement[key] = (ops.cast(same, "float32"), mask)
            if mask is not None:
                student._keras_mask = mask
            if loss.label_aware:
                ids = ids_of_output(loss, outputs, student.shape)
                if ids is None:
                    raise ValueError(
                        f"The distillation loss '{name}' "
                        f"({type(loss).__name__}) needs labels, and the data "
                        "has none. Give labels to `fit`, -1 for an example "
                        "without one, or use a loss that needs none, such as "
                        "SoftTargets."
                    )
                teacher = (teacher, ids)
            weight = weight_of_tap(outputs, loss.student)
            values[name] = loss(teacher, student, weight)
        return values, agreement

    def after_step(self) -> None:
        """Lets the teacher follow a student that was just updated."""
        if self.teacher is not None:
            self.teacher.after_step()

    def weighted_sum(self, values: dict, step, outputs: list = ()):
        """Returns the sum of the values, each times its weight in a step.

        `loss_weights` weigh an output whole: its labels and its teacher.
        """
        parts = []
        for name, loss in self.losses.items():
            output = output_of_tap(outputs, loss.student)
            share = output.loss_weight if output else 1.0
            parts.append(share * loss.weight_at(step) * values[name])
        return ops.sum(parts)

    def _known_ids(self, loss, target, guard):
        """Returns a sparse target whose ids are classes of the student."""
        shape = self.student_pass.shape(loss.student)
        if shape is None or shape[-1] is None:
            return target
        ids = ops.cast(target["ids"], "int32")
        guard.count("classes", ids >= shape[-1])
        return {**target, "ids": ops.minimum(ids, shape[-1] - 1)}

    def _heads(self, loss, attached) -> tuple:
        """Returns what both sides of a loss end in; attached are logits."""
        head = self.student_pass.activation(loss.student)
        if attached:
            return "linear", head
        return self.teacher.activation_of(loss.teacher), head

    def _scores(self, name, pair, targets, output):
        """Returns both sides as comparable logits."""
        scores, key = self._class_scores[name], None
        if targets.attached:
            key = targets.keys.get(self.losses[name].teacher)
        label_loss = output and output.loss
        kinds = scores.kinds(label_loss, key, live=not targets.attached)
        return scores.compared(*pair, kinds, targets.guard, output)


def _agreements(losses) -> dict:
    """Returns the key in logs for each of the student's class scores."""
    taps = list(dict.fromkeys(loss.student for loss in losses if loss.logits))
    key = "teacher_agreement"
    if len(taps) == 1:
        return {taps[0]: key}
    return {tap: f"{tap}_{key}" for tap in taps}


def _index(loss, index):
    if loss.index_aware and index is None:
        raise ValueError(
            f"{type(loss).__name__} remembers samples, so the data must say "
            "which sample is which. Attach their indices: x = "
            "kd.attach_targets(x, {'sample_index': np.arange(len(x))})."
        )
    return index
