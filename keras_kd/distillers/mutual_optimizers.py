# SPDX-License-Identifier: Apache-2.0
"""MutualOptimizers: the optimizers of several students, seen as one."""

from __future__ import annotations

from collections.abc import Iterable

import keras


class MutualOptimizers(keras.optimizers.Optimizer):
    """What callbacks find as `optimizer` of a model of several students.

    Keras' learning-rate callbacks see each optimizer through `optimizers`, as
    they do with `keras.optimizers.MultiOptimizer`. That one is not used: it
    finds an optimizer by the path of a variable, which students of one
    architecture share, and takes none that scales losses.

    It takes no step and is not saved itself: each student holds, applies and
    saves its own optimizer.
    """

    def __init__(self, students: Iterable[keras.Model]):
        super().__init__(learning_rate=0.0, name="peer_optimizers")
        self._students = list(students)

    @property
    def optimizers(self) -> list:
        """The optimizers, in the order of the students."""
        return [student.optimizer for student in self._students]

    @property
    def built(self) -> bool:
        """Whether every student's optimizer has its variables."""
        return all(optimizer.built for optimizer in self.optimizers)

    @built.setter
    def built(self, value):
        pass  # Keras sets it; the optimizers know themselves

    def build(self, variables):
        for student in self._students:
            if not student.optimizer.built:
                student.optimizer.build(student.trainable_variables)

    @property
    def learning_rate(self):
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        for optimizer in self.optimizers:
            optimizer.learning_rate = value

    @property
    def iterations(self):
        return self.optimizers[0].iterations

    @property
    def variables(self):
        return [v for optimizer in self.optimizers for v in optimizer.variables]

    def finalize_variable_values(self, var_list):
        for student in self._students:
            student.optimizer.finalize_variable_values(
                student.trainable_variables
            )


def copies(optimizer, count: int) -> list:
    """Returns one optimizer per student.

    Args:
        optimizer: What Keras' `compile` takes, which is copied (settings,
            not state); or a list with one for each student.
        count: How many students there are.

    Raises:
        ValueError: If a list is not one different optimizer per student.
    """
    if not isinstance(optimizer, (list, tuple)):
        optimizer = keras.optimizers.get(optimizer or "rmsprop")
        # Named apart, since callbacks log each learning rate by the name.
        return [
            type(optimizer).from_config(
                {**optimizer.get_config(), "name": f"student_{i + 1}"}
            )
            for i in range(count)
        ]
    optimizers = [keras.optimizers.get(item) for item in optimizer]
    if None in optimizers:
        raise ValueError(
            "Every student needs an optimizer. Received: "
            f"optimizer={optimizer!r}"
        )
    if len({id(item) for item in optimizers}) != len(optimizers):
        raise ValueError(
            "Every student needs an optimizer of its own. Received a list that "
            "holds the same object twice. Pass one optimizer to have it copied."
        )
    if len(optimizers) != count:
        raise ValueError(
            f"`optimizer` must be one optimizer, which is copied, or a list "
            f"of {count}, one per student. Received: {len(optimizers)}"
        )
    return optimizers
