# SPDX-License-Identifier: Apache-2.0
"""Engine: what runs functions, wherever that is."""

from __future__ import annotations

import abc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class TaskLostError(RuntimeError):
    """The process of a task died each time that the task was tried."""


class Engine(abc.ABC):
    """Runs functions, `slots` at a time, and forgets none.

    A context manager: at its end nothing of it runs any more. A task whose
    process dies is run again, and only that task.

    Attributes:
        slots: How many tasks run at a time.
        lost: How many processes have died so far.
        here: Whether tasks run in this process: one that dies takes the
            caller with it.

    Example:

    ```python
    with kd.engines.Serial() as engine:
        table = engine.share([1, 2, 3])  # once for all tasks
        engine.submit(sum, table).result()
    ```
    """

    slots: int = 1
    lost: int = 0
    here: bool = False

    def share(self, value: Any) -> Any:
        """Returns what stands for `value` among the arguments of `submit`.

        The function is given the value. A process receives it once, and
        finds what tasks before have left in it.
        """
        return value

    @abc.abstractmethod
    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Runs a function when there is a free slot; in order of the calls.

        Returns:
            A `Future`. Its `result()` is what the function returned; or it
            raises what the function raised, with the traceback of another
            process as a note, or a `TaskLostError`.
        """

    def close(self) -> None:  # noqa: B027 (not every engine holds something)
        """Ends all that the engine has started, at once."""

    def __str__(self):
        return f"{type(self).__name__} ({self.slots} at a time)"

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()
