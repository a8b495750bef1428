# SPDX-License-Identifier: Apache-2.0
"""Checks that anybody can run on a loss, teacher or distiller of their own.

`Distiller` relies on promises that no signature states: one value per
example, no gradient into the teacher, the same number eagerly and compiled.
A loss that breaks one still trains, only wrongly. These functions try every
promise and name the one that is broken.

- `check_loss`: a distillation loss (`keras_kd.losses.DistillationLoss`);
- `check_teacher`: a source of targets (`keras_kd.teachers.Teacher`);
- `check_distiller`: how both work in training: who is called how often, what
  changes, what is saved;
- `check_engine`: where trials of a search run (`keras_kd.engines.Engine`).

A loss of your own takes three steps: subclass, override `call` to return one
value per example, and write one test with the formula in NumPy, which alone
can tell whether the formula is right.

Example:

```python
import keras
import numpy as np
import keras_kd as kd


@keras.saving.register_keras_serializable(package="my_project")
class CosineDistance(kd.losses.DistillationLoss):
    def call(self, y_true, y_pred):
        y_true = keras.ops.normalize(y_true, axis=-1)
        y_pred = keras.ops.normalize(y_pred, axis=-1)
        return 1.0 - keras.ops.sum(y_true * y_pred, axis=-1)


def cosine_distance(teacher, student):
    lengths = [np.linalg.norm(a, axis=-1) for a in (teacher, student)]
    return 1.0 - (teacher * student).sum(-1) / lengths[0] / lengths[1]


def test_cosine_distance():
    kd.testing.check_loss(
        CosineDistance(), teacher_shape=(6, 8), reference=cosine_distance
    )
```

Return the mean over the batch instead, and `check_loss` says so:

    CosineDistance breaks the promise 'one value per example'. Expected:
    call() to return 6 values, shape (6, ...). Received: shape (). To fix
    it: reduce over features only, never over the batch; ...
"""

from keras_kd.testing.contract import ContractError
from keras_kd.testing.distillers import check_distiller
from keras_kd.testing.engines import check_engine
from keras_kd.testing.losses import check_loss
from keras_kd.testing.teachers import check_teacher

__all__ = [
    "ContractError",
    "check_distiller",
    "check_engine",
    "check_loss",
    "check_teacher",
]
