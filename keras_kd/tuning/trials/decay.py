# SPDX-License-Identifier: Apache-2.0
"""CosineDecay whose peak can change without retracing a compiled step."""

from __future__ import annotations

import keras

from keras_kd.core.scalars import Scalar


@keras.saving.register_keras_serializable(package="keras_kd")
class DecayFromPeak(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine decay to zero from a peak that is a variable.

    Equals `keras.optimizers.schedules.CosineDecay(peak, steps)`, which bakes
    its peak into the compiled step.

    Args:
        peak: Learning rate at step 0. Assignable at any time.
        steps: Training steps after which the rate is zero.
        name: Name of the schedule.
    """

    peak = Scalar(minimum=0.0, open_minimum=True)

    def __init__(self, peak: float, steps: int, name: str = "decay_from_peak"):
        super().__init__()
        self.peak = peak
        self.steps = steps
        self.name = name
        self._from_one = keras.optimizers.schedules.CosineDecay(1.0, steps)

    def __call__(self, step):
        return self._from_one(step) * Scalar.tensor(self, "peak")

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "name": self.name}
