# SPDX-License-Identifier: Apache-2.0
"""KeepBest: a training ends with the weights of its best epoch."""

from __future__ import annotations

import keras


class KeepBest(keras.callbacks.EarlyStopping):
    """Ends a training with the weights of its best epoch.

    It never stops early: every training takes the same number of steps.

    Args:
        monitor: Metric to watch; it has to be measured.
        mode: `"max"` or `"min"`.
    """

    def __init__(self, monitor: str, mode: str):
        super().__init__(
            monitor, mode=mode, patience=2**31, restore_best_weights=True
        )

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor not in (logs or {}):
            raise ValueError(
                f"{self.monitor!r} is not among what is measured. Expected "
                f"one of {sorted(logs or {})}. Pass it in `metrics`, too."
            )
        super().on_epoch_end(epoch, logs)
