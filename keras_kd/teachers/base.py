# SPDX-License-Identifier: Apache-2.0
"""Teacher: where the targets of a distillation come from."""

from __future__ import annotations

from collections.abc import Iterable


class Teacher:
    """Base class of all sources of targets.

    A teacher is a plain object. It is never a layer of the distiller, so its
    weights are in no checkpoint, and nothing of it is trained.

    To write one, override `__call__`; override `prepare` and `shape` if it
    can give more than its output.

    Attributes:
        activation: What its `"output"` went through last: `"softmax"`,
            `"sigmoid"`, `"linear"` (logits), or `None` if unknown.
        supports_jit: Whether XLA can compile it.

    Example:

    ```python
    class Oracle(kd.teachers.Teacher):
        activation = "linear"

        def __call__(self, x):
            return {"output": 10.0 * x}
    ```
    """

    activation: str | None = None
    supports_jit = True

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

    def __call__(self, x) -> dict:
        """Returns `{tap: tensor}` for a batch of the student's inputs.

        Called once per training step, inside the compiled step, and never
        in `evaluate` or `predict`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must override __call__(x)."
        )
