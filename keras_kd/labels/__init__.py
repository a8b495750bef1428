# SPDX-License-Identifier: Apache-2.0
"""The old name of `keras_kd.targets`; it goes in the next version."""

import warnings

from keras_kd.targets import CutMix
from keras_kd.targets import Mixup
from keras_kd.targets import attach_targets

__all__ = ["CutMix", "Mixup", "attach_targets"]

warnings.warn(
    "keras_kd.labels is called keras_kd.targets now. Write kd.targets.Mixup "
    "where kd.labels.Mixup stands.",
    FutureWarning,
    stacklevel=2,
)
