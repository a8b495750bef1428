# SPDX-License-Identifier: Apache-2.0
"""Scalar: a number that compiled training steps read through a variable."""

from __future__ import annotations

import math
from typing import overload

import keras
from keras import ops


class Scalar:
    """A float attribute that can change without retracing a compiled step.

    A Python float would be baked into the compiled step. This descriptor
    reads and writes like a float, and `Scalar.tensor` gives the variable
    that a compiled step reads. The variable is not a weight: it is neither
    trained, nor tracked, nor saved.

    Args:
        minimum: Smallest value allowed.
        maximum: Largest value allowed.
        open_minimum: Whether `minimum` itself is refused.

    Example:

    ```python
    class Softened:
        temperature = Scalar(minimum=0.0, open_minimum=True)

    softened = Softened()
    softened.temperature = 2.0                      # a float for people
    Scalar.tensor(softened, "temperature")          # a tensor for the step
    ```
    """

    def __init__(
        self,
        minimum: float = -math.inf,
        maximum: float = math.inf,
        open_minimum: bool = False,
    ):
        self.minimum = minimum
        self.maximum = maximum
        self.open_minimum = open_minimum

    def __set_name__(self, owner, name):
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Scalar: ...
    @overload
    def __get__(self, instance: object, owner: type) -> float: ...
    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        if self.name not in _scalars(instance):
            # Keras asks for the old value of an attribute that it sets.
            raise AttributeError(self.name)
        return _scalars(instance)[self.name][0]

    def __set__(self, instance, value):
        value = self._checked(value)
        scalars = _scalars(instance)
        if self.name in scalars:
            _, variable = scalars[self.name]
        else:
            variable = keras.Variable(
                0.0, dtype="float32", trainable=False, autocast=False
            )
        variable.assign(value)
        # Twice: exact for people, as a variable for compiled steps.
        scalars[self.name] = value, variable

    def _checked(self, value) -> float:
        bracket = "(" if self.open_minimum else "["
        closing = ")" if math.isinf(self.maximum) else "]"
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        below = number < self.minimum
        below = below or (self.open_minimum and number == self.minimum)
        if not math.isfinite(number) or below or number > self.maximum:
            raise ValueError(
                f"`{self.name}` must be a finite number in "
                f"{bracket}{self.minimum:g}, {self.maximum:g}{closing}. "
                f"Received: {self.name}={value!r}"
            )
        return number

    @staticmethod
    def tensor(instance, name: str):
        """Returns the current value as a float32 scalar tensor."""
        return ops.convert_to_tensor(_scalars(instance)[name][1])

    @staticmethod
    def of(instance, name: str, default: float):
        """Returns an object's own number, for a compiled step.

        A tensor where it is a `Scalar`, else the plain attribute, else
        `default`. A property, which may belong to another object, is none.
        """
        if isinstance(getattr(type(instance), name, None), Scalar):
            return Scalar.tensor(instance, name)
        return vars(instance).get(name, default)


def _scalars(instance) -> dict:
    # `__dict__` is written directly: a Keras layer would otherwise track the
    # variables as weights and put them into every checkpoint.
    return instance.__dict__.setdefault("_scalars", {})
