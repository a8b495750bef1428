# SPDX-License-Identifier: Apache-2.0
"""Extras: libraries that only some parts need."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str, needed_by: str) -> ModuleType:
    """Imports a library, or says how to install it.

    Args:
        module: What is imported, such as `"jiwer"`.
        extra: The extra of keras_kd that brings it.
        needed_by: What needs it.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{needed_by} needs {package}: pip install 'keras_kd[{extra}]'. "
            f"Received: {error}"
        ) from error
