# SPDX-License-Identifier: Apache-2.0
"""The report: the table, the picture and the page of a run."""

from keras_kd.evaluation import Gain
from keras_kd.evaluation import latency
from keras_kd.evaluation import measure
from keras_kd.evaluation import paired_gain
from keras_kd.report.report import Report
from keras_kd.report.table import to_markdown

# Gain, latency, measure and paired_gain are found here as well, where they
# were before they had a room of their own.
__all__ = [
    "Gain",
    "Report",
    "latency",
    "measure",
    "paired_gain",
    "to_markdown",
]
