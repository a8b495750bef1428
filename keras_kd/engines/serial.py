# SPDX-License-Identifier: Apache-2.0
"""Serial: an engine that runs each task at once, in this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from keras_kd.engines.base import Engine


class Serial(Engine):
    """Runs a task while it is submitted. Nothing is copied.

    Example:

    ```python
    kd.engines.Serial().submit(max, 1, 2).result()
    ```
    """

    here = True

    def submit(self, function: Callable, *arguments: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # Ctrl-C is no result
            future.set_exception(error)
        return future

    def __str__(self):
        return "Serial (this process)"
