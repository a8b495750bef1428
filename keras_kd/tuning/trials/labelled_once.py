# SPDX-License-Identifier: Apache-2.0
"""LabelledOnce: a teacher's answers to the data that all trials share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import teachers
from keras_kd.core.progress import say
from keras_kd.distillers.distiller import Distiller
from keras_kd.targets.attached import attach_targets
from keras_kd.targets.attached import outputs_of
from keras_kd.targets.attached import split_targets
from keras_kd.targets.attached import target_of


class LabelledOnce:
    """Runs a teacher over arrays the first time that they are trained on.

    Kept in memory, and so only what is small: the teacher's output, and that
    of the last arrays that came. Arrays are known by identity.
    """

    def __init__(self, teacher: Any):
        self._given = teacher
        self._teacher = teachers.get(teacher)
        # The arrays themselves, so that their identity is not given away.
        self._arrays: list = []
        self._target: Any = None

    def attach(self, distiller: Distiller, x: Any, verbose: int = 1) -> Any:
        """Returns `x` with the teacher's output, or `x` as it is.

        As it is where the teacher has to run in each step: for a data set
        that gives other examples in each epoch, losses on features, and a
        teacher that changes.
        """
        if not _is_arrays(x) or not self._serves(distiller):
            return x
        arrays = keras.tree.flatten(x)
        if list(map(id, arrays)) != list(map(id, self._arrays)):
            say("teacher: labelling the examples, once for all trials", verbose)
            found = outputs_of(self._teacher, (x,), verbose=verbose)
            self._target = target_of(self._teacher, found)
            self._arrays = arrays
        return attach_targets(x, {"output": self._target})

    def _serves(self, distiller):
        teacher = self._teacher
        if teacher is None or distiller.teacher is not self._given:
            return False
        wants_more = any(
            loss.index_aware or loss.taps[0] != ("output",)
            for loss in distiller.distillation_losses
        )
        return not wants_more and teacher.can_be_stored


def _is_arrays(x):
    if split_targets(x)[1] is not None:
        return False
    parts = list(x.values()) if isinstance(x, dict) else [x]
    kinds = (np.ndarray, tf.Tensor)
    return bool(parts) and all(isinstance(part, kinds) for part in parts)
