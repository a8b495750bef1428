# SPDX-License-Identifier: Apache-2.0
"""Data: the three splits, and data made for a kind of distillation."""

from keras_kd.data.splits import UNLABELLED
from keras_kd.data.splits import Data

__all__ = ["UNLABELLED", "Data"]
