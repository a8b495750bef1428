# SPDX-License-Identifier: Apache-2.0
"""Pruning: tfmot's own engine on Keras 3 variables; and whole channels.

tfmot's `prune_low_magnitude` refuses Keras 3 models, but the engine below it
works on plain `tf.Variable`s, and the `value` of a Keras 3 variable is one.
So the model needs no wrapper and no Keras 2 copy, and it can be pruned while
a `Distiller` trains it.
"""

from keras_kd.pruning.callback import Pruning
from keras_kd.pruning.kernels import prunable_kernels
from keras_kd.pruning.kernels import sparsity_of
from keras_kd.pruning.stage import prune
from keras_kd.pruning.structured import prune_channels
from keras_kd.pruning.tfmot import import_tfmot

__all__ = [
    "Pruning",
    "import_tfmot",
    "prunable_kernels",
    "prune",
    "prune_channels",
    "sparsity_of",
]
