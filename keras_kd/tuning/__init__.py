# SPDX-License-Identifier: Apache-2.0
"""Searching the temperature, alpha and whatever else is open."""

from keras_kd.core.versions import require

require("keras-tuner", needed_by="The search")
