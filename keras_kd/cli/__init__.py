# SPDX-License-Identifier: Apache-2.0
"""The command line, `keras-kd`."""

from keras_kd.cli.main import main

__all__ = ["main"]
