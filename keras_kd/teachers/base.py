# SPDX-License-Identifier: Apache-2.0
"""Teacher: where the targets of a distillation come from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Iterable

import keras

from keras_kd.core import output_heads
from keras_kd.core import output_kinds
from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.taps import ForwardPass
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import ScalarLike
from keras_kd.core.type_aliases import Tensor

MEMBERS = "members"
"""Tap of a teacher that combines: logits `(batch, members, ..., classes)`."""


class Teacher:
    """Base class of all sources of targets.

    A teacher is a plain object. It is never a layer of the distiller, so its
    weights are in no checkpoint, and nothing of it is trained.

    To write one, override `__call__`; override `prepare` and `shape` if it
    can give more than its output. Several distillers may share a teacher:
    what `prepare` and `bind` keep in `self` belongs to one of them, since
    each asks a copy of its own (see `ready_for`).

    Attributes:
        activation: What its `"output"` went through last: `"softmax"`,
            `"sigmoid"`, `"linear"` (logits), or `None` if unknown.
        outputs: What was said that its outputs are: `"logits"`,
            `"probabilities"`, `"values"` or a dict of these by tap. `None`:
            nothing beyond `activation`.
        supports_jit: Whether XLA can compile it.
        can_be_stored: Whether its output on a data set, stored once, teaches
            as well as asking it in every step.
        models: The Keras models it is made of.
        binary: Whether its output is known to be independent yes/no units.
        label_aware: Whether `combine` needs the labels.

    Example:

    ```python
    class Oracle(kd.teachers.Teacher):
        activation = "linear"

        def __call__(self, x):
            return {"output": 10.0 * x}
    ```
    """

    activation: str | None = None
    outputs: str | dict | None = None
    supports_jit = True
    can_be_stored = True
    models: tuple = ()
    binary = False
    label_aware = False

    def ready_for(
        self, names: Iterable[str], student: keras.Model | None = None
    ) -> Teacher:
        """Returns this teacher, ready to be asked for taps.

        A shallow copy, where `bind` or `prepare` are overridden: variables,
        models and a `Scalar` stay shared, the taps are the copy's own.

        Args:
            names: The taps that will be asked for.
            student: The student it is going to teach, if there is one.
        """
        if student is not None:
            self.bind(student)
        kind, ready = type(self), self
        if (kind.bind, kind.prepare) != (Teacher.bind, Teacher.prepare):
            ready = copy.copy(self)
        ready.prepare(names)
        return ready

    def bind(self, student: keras.Model) -> None:
        """Tells the student it is going to teach, before `prepare`."""

    def prepare(self, names: Iterable[str]) -> None:
        """Announces the taps that will be asked for.

        Raises:
            ValueError: If the teacher has no such tap.
        """
        unknown = [name for name in names if name != "output"]
        if unknown:
            raise ValueError(
                f"{type(self).__name__} gives its output only. Expected the "
                f"tap 'output'. Received: {unknown}"
            )

    def shape(self, name: str) -> tuple | None:
        """Returns the shape of a tap, or `None` where it is not known."""
        return None

    def activation_of(self, name: str) -> str | None:
        """Returns what a tap went through last, `None` if unknown."""
        return self.activation

    def kind_of(self, name: str) -> OutputKind:
        """Returns what a tap is, as far as that is known for certain."""
        outputs = output_kinds.said(self.outputs, name)
        kind = output_kinds.kind_of(self.activation_of(name), outputs)
        if kind.form == "linear":
            kind = kind._replace(form="logits")  # so it says of itself
        if self.binary and name == "output":
            kind = kind._replace(over="units")
        return kind

    def say_outputs(self, outputs: str | dict | None) -> None:
        """Keeps what was said, if anything, of the outputs."""
        output_kinds.check_outputs(outputs)
        if outputs is not None:
            # Else what was labelled for such a teacher would be no longer.
            self.outputs = outputs

    def student_tap(self, name: str) -> str | None:
        """Returns the student's tap that serves as this tap of the teacher.

        `None`, the default, for a teacher that answers by `__call__`.
        """
        return None

    def begin_epoch(self) -> None:
        """Called before an epoch: what remembers batches begins anew."""
        for model in self.models:
            for layer in model._flatten_layers():
                if getattr(layer, "stateful", False) and layer.built:
                    layer.reset_state()

    def after_step(self) -> None:
        """Called in the compiled step, after the student was updated."""

    def combine(
        self,
        members: Tensor,
        temperature: ScalarLike,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns one target from the tap `MEMBERS`, where there is one.

        Asked for by every loss on class scores, for its own temperature.

        Args:
            members: Logits of shape `(batch, members, ..., classes)`.
            temperature: Scalar T > 0.
            labels: Class ids `(batch, ...)`, if `label_aware` and known.

        Returns:
            Logits of shape `(batch, ..., classes)`.
        """
        return members[:, 0]

    def __call__(self, x: Arrays) -> dict:
        """Returns `{tap: tensor}` for a batch of the student's inputs.

        Called once per training step, inside the compiled step, and never
        in `evaluate` or `predict`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must override __call__(x)."
        )


class ModelTeacher(Teacher):
    """Base of the teachers that run one Keras model, in inference mode.

    Attributes:
        model: The model, `None` until there is one.
        preprocess: What turns the student's inputs into the model's.
    """

    model: keras.Model = None
    preprocess: Callable | None = None
    _pass: ForwardPass | None = None

    @property
    def supports_jit(self) -> bool:
        # A preprocess may use any TensorFlow operation, also those that XLA
        # does not know (antialiased resizing, strings).
        layers: list = (
            [] if self.model is None else self.model._flatten_layers()
        )
        return self.preprocess is None and all(x.supports_jit for x in layers)

    def prepare(self, names: Iterable[str]) -> None:
        self._pass = ForwardPass(self.model, names)

    def shape(self, name: str) -> tuple | None:
        return self._prepared().shape(name)

    def activation_of(self, name: str) -> str | None:
        return self._prepared().activation(name)

    def kind_of(self, name: str) -> OutputKind:
        model = self._prepared().model
        names = getattr(model, "output_names", None)
        loss = getattr(model, "loss", None)
        return output_kinds.trained_kind(
            self.activation_of(name),
            output_kinds.said(self.outputs, name),
            output_kinds.loss_of_tap(loss, name, names),
        )

    def __call__(self, x: Arrays) -> dict:
        forward = self._prepared()
        if self.preprocess is not None:
            x = self.preprocess(x)
        return forward(x, training=False)[1]

    def _prepared(self):
        if self._pass is None:
            self.prepare(["output"])
        return self._pass


def passed_on(name: str) -> property:
    """Returns an attribute or method that is that of `self.teacher`."""
    return property(lambda self: getattr(self.teacher, name))


def check_activation(activation, also: tuple = ("auto",)) -> None:
    """Raises unless `activation` is one that an output can end in."""
    if activation not in (*also, *output_heads.ACTIVATIONS):
        raise ValueError(
            f"`activation` must be {''.join(f'{a!r} or ' for a in also)}one of "
            f"{output_heads.ACTIVATIONS}. Received: activation={activation!r}"
        )


def known_kind(teacher: Teacher) -> OutputKind:
    """Returns what a teacher's output is, where it can be made logits.

    Raises:
        ValueError: If it is not known for certain, or is no class scores.
    """
    kind = teacher.kind_of("output")
    shape = teacher.shape("output")
    if kind.form == "probabilities" and shape and shape[-1] == 1:
        return kind._replace(over="units")
    if kind.form == "values":
        raise ValueError(
            f"The output of a {type(teacher).__name__} was said to be values, "
            "so it has no classes to combine or to put in another order. "
            "Expected outputs='logits' or 'probabilities'."
        )
    if kind.form is None or kind == OutputKind("probabilities"):
        raise ValueError(
            f"What a {type(teacher).__name__} ends in cannot be read off it. "
            "Say whether its output is logits or probabilities, and of "
            "classes or of yes/no units, as in "
            "kd.teachers.FrozenTeacher(model, activation='linear'), 'softmax' "
            "or 'sigmoid'."
        )
    return kind


def needs_own_pass(teacher: Teacher) -> None:
    """Raises if a teacher's targets are the student's own tensors."""
    if teacher.student_tap("output") is not None:
        raise ValueError(
            f"{type(teacher).__name__} takes its targets from the student's "
            "own pass, so it cannot be part of another teacher. Give it to "
            "Distiller by itself."
        )
