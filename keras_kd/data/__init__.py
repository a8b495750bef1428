# SPDX-License-Identifier: Apache-2.0
"""Data: the three splits, and data made for a kind of distillation."""

from keras_kd.data.parts import labels_of
from keras_kd.data.parts import take
from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data
from keras_kd.data.splits import as_data
from keras_kd.data.splits import as_dataset

__all__ = ["UNLABELLED", "Data", "as_data", "as_dataset", "labels_of", "take"]
