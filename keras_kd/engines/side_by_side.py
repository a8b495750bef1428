# SPDX-License-Identifier: Apache-2.0
"""Many tasks on an engine: begun as there is room, kept as they end."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from keras_kd.engines.base import Engine


def run_side_by_side(
    engine: Engine,
    tasks: Sequence[Any],
    begin: Callable[[Any], futures.Future],
    keep: Callable[[Any, Any], object],
) -> None:
    """Runs tasks as there are slots, and keeps each when it has ended.

    Args:
        engine: Where they run.
        tasks: What there is to do, in order.
        begin: Submits a task.
        keep: Is given a task and its result.

    Raises:
        Exception: The first that a task has raised, once those beside it
            have ended and were kept.
    """
    waiting, under_way, failed = list(tasks), {}, None
    while under_way or waiting:
        while waiting and len(under_way) < engine.slots:
            task = waiting.pop(0)
            under_way[begin(task)] = task
        futures.wait(under_way, return_when=futures.FIRST_COMPLETED)
        for future in [future for future in under_way if future.done()]:
            task = under_way.pop(future)
            try:
                keep(task, future.result())
            except Exception as error:
                failed, waiting = failed or error, []
    if failed is not None:
        raise failed
