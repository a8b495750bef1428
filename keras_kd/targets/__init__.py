# SPDX-License-Identifier: Apache-2.0
"""The teacher cache, and what can be given to it."""

from keras_kd.targets.attached import attach_targets
from keras_kd.targets.augment.mixing import CutMix
from keras_kd.targets.augment.mixing import Mixup
from keras_kd.targets.build.with_ray import label_with_ray

__all__ = ["CutMix", "Mixup", "attach_targets", "label_with_ray"]
