# SPDX-License-Identifier: Apache-2.0
"""as_json(): settings as records and digests hold them."""

from __future__ import annotations

import types
from typing import Any

import keras

from keras_kd import losses as losses_module
from keras_kd.core.identity import identity
from keras_kd.core.stage_cache import fingerprint_of_model


def as_json(value: Any) -> Any:
    """Returns a setting, or a list or dict of them, as JSON values.

    A function and a layer are known by what they compute, a callback by its
    class and the plain values that it holds.
    """
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, keras.distillation.DistillationLoss):
        value = losses_module.get(value)
    if isinstance(value, keras.Layer):  # Keras numbers its parts anew
        return {
            "class_name": type(value).__qualname__,
            "sha256": fingerprint_of_model(value),
        }
    if isinstance(value, keras.callbacks.Callback):
        plain = (bool, int, float, str, types.FunctionType)
        own = {k: v for k, v in vars(value).items() if isinstance(v, plain)}
        return {"class_name": type(value).__qualname__, "config": as_json(own)}
    if isinstance(value, types.FunctionType):
        return {"function": value.__name__, "sha256": identity(value)}
    return keras.saving.serialize_keras_object(value)
