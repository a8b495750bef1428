# SPDX-License-Identifier: Apache-2.0
"""Evaluation: measures models and files, and compares them."""

from keras_kd.evaluation.gain import Gain
from keras_kd.evaluation.gain import paired_gain
from keras_kd.evaluation.latency import latency
from keras_kd.evaluation.measure import measure

__all__ = ["Gain", "latency", "measure", "paired_gain"]
