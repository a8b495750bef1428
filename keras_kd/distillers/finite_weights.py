# SPDX-License-Identifier: Apache-2.0
"""FiniteWeights: a training that has spoilt the weights does not end well.

A NaN of the inputs may show in no figure: a ReLU hides it from the loss, and
not from the gradients. So it is the weights that are looked at.
"""

from __future__ import annotations

import keras
from keras import ops


def spoilt_weights(model: keras.Model) -> list[str]:
    """Returns the paths of trained variables that hold NaN or infinity."""
    return [
        variable.path
        for variable in model.trainable_variables
        if keras.backend.is_float_dtype(variable.dtype)
        and not bool(ops.all(ops.isfinite(variable)))
    ]


class FiniteWeights(keras.callbacks.Callback):
    """Ends a training once it has made weights NaN or infinite.

    Give it as the last callback: what others do at the end of an epoch, or
    of the training, may bring finite weights back, as `EarlyStopping(...,
    restore_best_weights=True)` does. What was infinite before may stay so.

    Raises:
        ValueError: At the end of a training whose weights are spoilt.

    Example:

    ```python
    from keras_kd.distillers.finite_weights import FiniteWeights

    student.compile("adam", cross_entropy)
    student.fit(x, y, verbose=0, callbacks=[FiniteWeights()])
    ```
    """

    def on_train_begin(self, logs=None):
        self.before = spoilt_weights(self.model)
        self.epoch = None

    def on_epoch_end(self, epoch, logs=None):
        if self._spoilt():
            self.epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        found = self._spoilt()
        if found:
            raise ValueError(
                f"Training has made NaN or infinity of weights of "
                f"'{self.model.name}', such as {found[0]}. It was stopped "
                f"after epoch {(self.epoch or 0) + 1}; give it new weights. "
                "Expected inputs and labels that are finite and not huge: "
                "look for NaN, infinity and the like among them. If there "
                "are none, the steps are too long: lower the learning rate, "
                "or clip the gradients (clipnorm=1.0 of the optimizer)."
            )

    def _spoilt(self):
        return [p for p in spoilt_weights(self.model) if p not in self.before]
