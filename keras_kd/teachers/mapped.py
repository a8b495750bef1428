# SPDX-License-Identifier: Apache-2.0
"""ClassMapping: a teacher whose classes are not numbered as the student's."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

import keras
from keras import ops

from keras_kd.core import output_kinds
from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.type_aliases import Arrays
from keras_kd.teachers.base import MEMBERS
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.base import known_kind
from keras_kd.teachers.base import needs_own_pass
from keras_kd.teachers.base import passed_on
from keras_kd.teachers.frozen import FrozenTeacher

# exp(-1e4 / T) is 0 in float32 up to T = 90, and float16 can store it.
_NEVER = 1e4


class ClassMapping(Teacher):
    """Puts a teacher's classes in the student's order.

    For a teacher that numbers the classes otherwise, knows only some of
    them, or knows more. Nothing is guessed from names: the mapping is given.
    A class the teacher does not know gets probability 0, at any temperature
    up to 90; where that is wrong rather than unknown, distil those examples
    by their labels. Not for losses that would forbid such a class for good
    or measure by its logit: reverse KL, Jensen-Shannon,
    `StandardizedTargets`.

    Args:
        teacher: A Keras model or a teacher.
        classes: The student's class for each class of the teacher, in the
            teacher's order; `None` for one that the student does not have:
            it is left out, and the others sum to 1.
        num_classes: Number of the student's classes.

    Raises:
        ValueError: If `classes` names a class twice or out of range, or is
            not as long as the teacher's output.

    Example:

    ```python
    # The teacher knows classes 2 and 0, in this order, and one more.
    mapped = kd.teachers.ClassMapping(teacher, [2, 0, None], num_classes=3)
    distiller = kd.Distiller(mapped, student)
    ```
    """

    activation = "linear"
    label_aware = passed_on("label_aware")
    can_be_stored = passed_on("can_be_stored")
    supports_jit = passed_on("supports_jit")
    models = passed_on("models")
    after_step = passed_on("after_step")
    combine = passed_on("combine")

    def __init__(
        self,
        teacher: keras.Model | Teacher,
        classes: Sequence,
        num_classes: int,
    ):
        is_teacher = isinstance(teacher, Teacher)
        self.teacher = teacher if is_teacher else FrozenTeacher(teacher)
        self.classes = list(classes)
        self.num_classes = num_classes
        known = [c for c in self.classes if c is not None]
        in_range = all(
            isinstance(c, int) and 0 <= c < num_classes for c in known
        )
        if not known or not in_range or len(set(known)) < len(known):
            raise ValueError(
                "`classes` must give for each class of the teacher another "
                f"class of the student, from 0 to {num_classes - 1}, or None. "
                f"Received: classes={self.classes}"
            )
        # The teacher's class for each of the student's; 0 stands in where
        # there is none.
        self._known = [c in known for c in range(num_classes)]
        self._source = [
            self.classes.index(c) if c in known else 0
            for c in range(num_classes)
        ]

    @property
    def binary(self) -> bool:
        return self.teacher.kind_of("output").over == "units"

    def kind_of(self, name: str) -> OutputKind:
        kind = known_kind(self.teacher)
        form = "logits" if kind.form == "probabilities" else kind.form
        return OutputKind(form, kind.over)

    def bind(self, student: keras.Model) -> None:
        self.teacher.bind(student)

    def prepare(self, names: Iterable[str]) -> None:
        super().prepare(names)
        self.teacher = self.teacher.ready_for(["output"])
        needs_own_pass(self.teacher)
        known_kind(self.teacher)
        shape = self.teacher.shape("output")
        if shape is not None:
            self._check_length(shape)

    def shape(self, name: str) -> tuple | None:
        shape = self.teacher.shape(name)
        return shape and (*shape[:-1], self.num_classes)

    def __call__(self, x: Arrays) -> dict:
        given = self.teacher(x)
        kind = known_kind(self.teacher)
        kinds = {"output": kind, MEMBERS: OutputKind("logits", kind.over)}
        return {
            name: self._map(
                output_kinds.scores(given[name], kinds[name], kind.over)
            )
            for name in ("output", MEMBERS)
            if name in given
        }

    def _map(self, logits):
        self._check_length(logits.shape)
        mapped = ops.take(logits, self._source, axis=-1)
        lowest = -_NEVER
        if not self.binary:
            # Far below the classes in use, whatever the logits' level is.
            in_use = ops.where(self._known, mapped, -3e38)
            lowest = ops.max(in_use, axis=-1, keepdims=True) - _NEVER
        return ops.where(self._known, mapped, lowest)

    def _check_length(self, shape):
        if shape[-1] != len(self.classes):
            raise ValueError(
                "`classes` must have an entry for each class of the teacher. "
                f"Received: {len(self.classes)} entries, and a teacher's "
                f"output of shape {tuple(shape)}."
            )
