# SPDX-License-Identifier: Apache-2.0
"""Terms: the distillation losses between one teacher and one student."""

from __future__ import annotations

import keras
from keras import ops

from keras_kd import heads
from keras_kd import losses as losses_module
from keras_kd import teachers
from keras_kd.class_ids import class_ids
from keras_kd.class_ids import labels_of_output
from keras_kd.losses.base import compatible
from keras_kd.projectors import Projector
from keras_kd.scalars import Scalar
from keras_kd.taps import ForwardPass
from keras_kd.teachers.base import MEMBERS

_RESERVED = ("loss", "student_loss", "teacher_agreement")


class Terms:
    """Which taps the losses need, and their values in a step.

    A plain object, so that Keras tracks neither the teacher nor the tapped
    view of the student as layers.

    Args:
        teacher: `Teacher`, Keras model or `None`.
        student: The student model.
        losses: A distillation loss or a list of them.
    """

    def __init__(self, teacher, student: keras.Model, losses):
        self.losses = _by_name(losses)
        taps = [loss.student for loss in self.losses.values()]
        self.student_pass = ForwardPass(student, taps)
        self.set_teacher(teacher)

    def set_teacher(self, teacher) -> None:
        """Replaces the source of targets, checking that it fits."""
        source = teachers.get(teacher)
        if source is not None:
            source.bind(self.student_pass.model)
            source.prepare([loss.teacher for loss in self.losses.values()])
            for loss in self.losses.values():
                self._check_known_shapes(loss, source)
        self.given_teacher = teacher
        self.teacher = source

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the teacher's part of the step."""
        return self.teacher is None or self.teacher.supports_jit

    def make_projectors(
        self, targets: dict | None = None, taps: dict | None = None
    ) -> dict | None:
        """Returns `{loss name: layer}`, or `None` while shapes are unknown.

        Args:
            targets: Tensors of the teacher's taps, where their shapes come
                with the data.
            taps: Tensors of the student's taps, for a student that is built
                by the data.
        """
        projectors = {}
        for name, loss in self.losses.items():
            if loss.projector is None:
                continue
            student = self.student_pass.shape(loss.student)
            if student is None and taps is not None:
                student = tuple(taps[loss.student].shape)
            if targets is not None:
                teacher = tuple(_tap(targets, loss.teacher).shape)
            else:
                teacher = self.teacher and self.teacher.shape(loss.teacher)
            if student is None or teacher is None:
                return None
            layer = loss.projector
            if layer == "auto":
                if compatible(teacher, student):
                    continue
                layer = Projector(teacher[1:], name=f"{name}_projector")
            if not layer.built:
                layer.build((None, *student[1:]))
            loss.check_shapes(teacher, layer.compute_output_shape(student))
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

    def targets(self, x, attached: dict | None, guard) -> dict:
        """Returns the teacher's taps for a batch: checked, no gradient.

        Args:
            x: A batch of the student's inputs.
            attached: Targets that came with the data; the teacher is then
                not run.
            guard: The `StepGuard` of the step.
        """
        if attached is None and self.teacher is None:
            raise ValueError(
                "There is no teacher. Set `distiller.teacher = ...` (a saved "
                "distiller does not contain it), or give data with attached "
                "targets."
            )
        targets = guard.finite(
            self.teacher(x) if attached is None else attached
        )
        for loss in self.losses.values():
            if loss.logits and attached is None:
                if self.teacher.activation_of(loss.teacher) is None:
                    guard.not_probabilities(_tap(targets, loss.teacher))
        return keras.tree.map_structure(ops.stop_gradient, targets)

    def values(
        self,
        targets,
        taps,
        projectors,
        binary=None,
        sample_weight=None,
        labels=None,
    ):
        """Returns `({loss name: scalar}, agreement)` of a batch.

        Args:
            targets: `{tap: tensor}` of the teacher.
            taps: `{tap: tensor}` of the student.
            projectors: What `make_projectors` returned.
            binary: Whether outputs are yes/no units; `None` to read it off
                the models.
            sample_weight: `(batch, ...)` weights, or `None`.
            labels: As given to `fit`, for losses that need them.

        Returns:
            The unweighted loss values, and a pair (0/1 values, mask): whether
            teacher and student choose the same class; `None` without a loss
            on class scores.
        """
        values, agreement = {}, None
        for name, loss in self.losses.items():
            teacher, student = _tap(targets, loss.teacher), taps[loss.student]
            combines = loss.logits and MEMBERS in targets
            if combines:
                teacher = targets[MEMBERS]
            mask = getattr(student, "_keras_mask", None)
            if name in projectors:
                student = projectors[name](student)
            if loss.logits:
                teacher, student = self._scores(loss, teacher, student, binary)
                if combines:
                    ids, needs = None, self.teacher.label_aware
                    if needs and labels is not None:
                        ids = self._class_ids(name, loss, labels, student.shape)
                    temperature = Scalar.of(loss, "temperature", 1.0)
                    teacher = self.teacher.combine(teacher, temperature, ids)
                if agreement is None:
                    same = ops.argmax(teacher, -1) == ops.argmax(student, -1)
                    agreement = (ops.cast(same, "float32"), mask)
            loss.check_shapes(teacher.shape, student.shape)
            if mask is not None:
                student._keras_mask = mask
            if loss.label_aware:
                ids = self._class_ids(name, loss, labels, student.shape)
                teacher = (teacher, ids)
            values[name] = loss(teacher, student, sample_weight)
        return values, agreement

    def weighted_sum(self, values: dict):
        """Returns the distillation loss: each value times its weight."""
        return ops.sum(
            [loss.weight * values[name] for name, loss in self.losses.items()]
        )

    def _teacher_head(self, loss):
        if self.teacher is None:
            return "linear"  # targets that come with the data are logits
        return self.teacher.activation_of(loss.teacher)

    def _scores(self, loss, teacher, student, binary):
        heads_of_both = (
            self._teacher_head(loss),
            self.student_pass.activation(loss.student),
        )
        binary = binary or "sigmoid" in heads_of_both
        binary = binary or (self.teacher is not None and self.teacher.binary)
        return heads.comparable(
            heads.to_logits(teacher, heads_of_both[0]),
            heads.to_logits(student, heads_of_both[1]),
            binary,
        )

    def _class_ids(self, name, loss, labels, shape):
        if labels is None:
            raise ValueError(
                f"The distillation loss '{name}' ({type(loss).__name__}) needs "
                "labels, and the data has none. Give labels to `fit`, -1 for "
                "an example without one, or use a loss that needs none, such "
                "as SoftTargets."
            )
        names = getattr(self.student_pass.model, "output_names", ["output"])
        labels = labels_of_output(labels, loss.student, names)
        # Features do not tell the number of classes; one label an example.
        return class_ids(labels, shape if loss.logits else (None, None))

    def _check_known_shapes(self, loss, source):
        """Compares shapes before the first step, where they are known."""
        teacher = source.shape(loss.teacher)
        student = self.student_pass.shape(loss.student)
        if loss.projector is not None or not teacher or not student:
            return
        if loss.logits:
            scores = map(keras.KerasTensor, (teacher, student))
            teacher, student = (s.shape for s in heads.comparable(*scores))
        loss.check_shapes(teacher, student)


def check_pair(teacher, student) -> None:
    """Raises unless `student` is a model of its own."""
    if not isinstance(student, keras.Model):
        raise ValueError(
            "`student` must be a keras.Model (Keras 3). Received: "
            f"{type(student).__module__}.{type(student).__name__}"
        )
    if any(student is model for model in _models_of(teacher)):
        raise ValueError(
            "Student and teacher are the same object, so there is nothing to "
            "learn. Build a second model, or copy it with "
            "keras.models.clone_model."
        )


def _models_of(teacher) -> list:
    if isinstance(teacher, (list, tuple)):
        return [model for each in teacher for model in _models_of(each)]
    is_teacher = isinstance(teacher, teachers.Teacher)
    return list(teacher.models) if is_teacher else [teacher]


def _tap(targets, name):
    if name not in targets:
        raise ValueError(
            f"A distillation loss needs the teacher's tap '{name}', which "
            f"the targets do not hold. Received taps: {sorted(targets)}"
        )
    return targets[name]


def _by_name(losses) -> dict:
    if not isinstance(losses, (list, tuple)):
        losses = [losses]
    if not losses:
        raise ValueError(
            "`distillation_losses` is empty. Give at least one loss, or leave "
            "it out for SoftTargets; alpha=0 turns distillation off."
        )
    named: dict = {}
    for loss in map(losses_module.get, losses):
        name, count = loss.name, 1
        while name in named or name in _RESERVED:
            count += 1
            name = f"{loss.name}_{count}"
        named[name] = loss
    return named
