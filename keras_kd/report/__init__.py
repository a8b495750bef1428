# SPDX-License-Identifier: Apache-2.0
"""The report: measure artefacts, compare them, show the result."""

from keras_kd.report.gain import Gain
from keras_kd.report.gain import paired_gain
from keras_kd.report.latency import latency
from keras_kd.report.measure import measure
from keras_kd.report.report import Report
from keras_kd.report.table import to_markdown

__all__ = [
    "Gain",
    "Report",
    "latency",
    "measure",
    "paired_gain",
    "to_markdown",
]
