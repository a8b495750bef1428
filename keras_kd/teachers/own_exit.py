# SPDX-License-Identifier: Apache-2.0
"""OwnExitTeacher: the student's deeper layers teach its shallower ones."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from keras_kd.core import output_kinds
from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.taps import ForwardPass
from keras_kd.core.type_aliases import Arrays
from keras_kd.teachers.base import Teacher


class OwnExitTeacher(Teacher):
    """The student's own deeper exit as a teacher (Be Your Own Teacher).

    The student has several exits; the deepest one teaches the others, and a
    deeper feature a shallower one. The targets come from the pass that trains
    the student, without gradient, so this teacher costs no pass of its own.
    The exits are trained together and any of them can be shipped: a model
    that answers early where that is good enough.

    A loss's `teacher` tap is one of the student's; `"output"` stands for
    `exit`. Every exit needs a loss of its own on the labels: let the student
    give all of them, and compile with a loss for each.

    Args:
        exit: Tap of the student that teaches: an output's or a layer's name.

    Raises:
        ValueError: If the student has no such tap, or a loss would compare a
            tap with itself.

    Example:

    ```python
    features = keras.layers.Dense(16, activation="relu")(keras.Input((8,)))
    early = keras.layers.Dense(3, name="early")(features)
    deep = keras.layers.Dense(16, activation="relu")(features)
    last = keras.layers.Dense(3, name="last")(deep)
    student = keras.Model(
        features._keras_history.operation.input,
        {"early": early, "last": last},
    )
    distiller = kd.Distiller(
        kd.teachers.OwnExitTeacher("last"),
        student,
        alpha=0.3,
        distillation_losses=kd.losses.SoftTargets(3.0, student="early"),
    )
    ```

    Reference: https://arxiv.org/abs/1905.08094
    """

    can_be_stored = False

    def __init__(self, exit: str):
        if not isinstance(exit, str) or not exit:
            raise ValueError(
                "`exit` must name a tap of the student, such as 'output' or "
                f"a layer's name. Received: exit={exit!r}"
            )
        self.exit = exit
        self._student = None

    def bind(self, student: keras.Model) -> None:
        self._student = student
        self.prepare(["output"])  # so that it can be looked at

    def student_tap(self, name: str) -> str:
        return self.exit if name == "output" else name

    def prepare(self, names: Iterable[str]) -> None:
        if self._student is None:
            raise ValueError(
                "OwnExitTeacher has no student yet. Give it to a Distiller; "
                "it cannot teach before, or be stored."
            )
        self._names: list[str] = list(names)
        taps = map(self.student_tap, self._names)
        self._pass: ForwardPass = ForwardPass(self._student, taps)

    def shape(self, name: str) -> tuple | None:
        return self._pass.shape(self.student_tap(name))

    def activation_of(self, name: str) -> str | None:
        return self._pass.activation(self.student_tap(name))

    def kind_of(self, name: str) -> OutputKind:
        return output_kinds.kind_of(self.activation_of(name))

    def __call__(self, x: Arrays) -> dict:
        """Returns the targets by a pass of their own, in inference mode.

        A distiller does not call it; it is for looking at the targets.
        """
        _, taps = self._pass(x, training=False)
        return {name: taps[self.student_tap(name)] for name in self._names}
