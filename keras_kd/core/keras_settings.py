# SPDX-License-Identifier: Apache-2.0
"""Keras' settings of a process, for another that is to build equal models."""

from __future__ import annotations

from typing import Any

import keras


def current_settings() -> dict[str, Any]:
    """Returns what a script may have set: precision and order of channels."""
    policy = keras.dtype_policies.serialize(keras.config.dtype_policy())
    return {
        "policy": policy,
        "floatx": keras.config.floatx(),
        "image_data_format": keras.config.image_data_format(),
    }


def apply_settings(settings: dict[str, Any]) -> None:
    """Sets what `current_settings` returned, maybe in another process."""
    if settings == current_settings():
        return
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_image_data_format(settings["image_data_format"])
    policy = keras.dtype_policies.deserialize(settings["policy"])
    keras.config.set_dtype_policy(policy)
