# SPDX-License-Identifier: Apache-2.0
"""as_json(): settings as records and digests hold them."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd import losses as losses_module


def as_json(value: Any) -> Any:
    """Returns a setting, or a list or dict of them, as JSON values."""
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, keras.distillation.DistillationLoss):
        value = losses_module.get(value)
    return keras.saving.serialize_keras_object(value)
