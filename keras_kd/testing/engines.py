# SPDX-License-Identifier: Apache-2.0
"""check_engine: what every engine promises."""

from __future__ import annotations

import os
import pathlib
import signal
import tempfile
import time
import traceback

from keras_kd.core.processes import is_running
from keras_kd.engines import Engine
from keras_kd.engines import TaskLostError
from keras_kd.testing.contract import require

PATIENCE = 10.0


def check_engine(engine: Engine) -> None:
    """Checks everything that `search` relies on in an engine.

    Also that a task is run again whose process died, where tasks run in
    processes of their own. At the end the engine is closed.

    Args:
        engine: An engine that tries a task again at least once.

    Raises:
        ContractError: If a promise is broken.

    Example:

    ```python
    kd.testing.check_engine(kd.engines.Serial())
    ```
    """

    def check(holds, promise, expected, received, fix):
        require(holds, engine, promise, expected, received, fix)

    count = 2 * engine.slots + 1
    with engine:
        # Functions within functions, as users write them.
        tasks = [engine.submit(lambda n: n * n, n) for n in range(count)]
        found = [task.result() for task in tasks]
        squares = [n * n for n in range(count)]
        fix = "give each task a future of its own"
        check(found == squares, "results", squares, found, fix)
        numbers = engine.share(list(range(9)))
        found = [engine.submit(sum, numbers, n).result() for n in (0, 1)]
        fix = "put the value in its place among the arguments"
        check(found == [36, 37], "shared values", [36, 37], found, fix)
        _check_errors(engine, check)
        tasks = [engine.submit(os.getpid) for _ in range(count)]
        seen = {task.result() for task in tasks}
        processes = seen - {os.getpid()}
        fix = "set `here` to whether tasks run in the caller's process"
        told = {os.getpid()} if engine.here else processes
        check(told == seen, "where tasks run", f"here={engine.here}", seen, fix)
        if processes:
            _check_deaths(engine, check)
            engine.submit(time.sleep, 60 * PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while any(map(is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = set(filter(is_running, processes))
    fix = "end in close() what was started, also in the middle of a task"
    check(not left, "nothing is left running", "no process", left, fix)


def _check_errors(engine, check):
    def fails():
        raise LookupError("no such width")

    error = engine.submit(fails).exception()
    text = "".join(traceback.format_exception(error)) if error else "no error"
    expected = "a LookupError, raised in fails()"
    is_same = isinstance(error, LookupError) and "no such width" in str(error)
    fix = "raise what the task has raised"
    check(is_same, "errors come back", expected, text, fix)
    fix = "add the traceback of the process as a note"
    check("in fails" in text, "errors tell where", expected, text, fix)


def _check_deaths(engine, check):
    def dies(mark):
        if mark is None or not mark.exists():
            if mark is not None:
                mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    with tempfile.TemporaryDirectory() as folder:
        lost = engine.lost
        answer = engine.submit(dies, pathlib.Path(folder) / "died").result()
    found = answer, engine.lost - lost
    fix = "submit it to another process, and count the death in `lost`"
    promise = "a task is run again whose process died"
    check(found == ("done", 1), promise, ("done", 1), found, fix)
    error = engine.submit(dies, None).exception()
    fix = "raise a TaskLostError after some tries"
    is_lost = isinstance(error, TaskLostError)
    check(is_lost, "a task that always dies ends", TaskLostError, error, fix)
    found = engine.submit(sum, [1, 2]).result()
    fix = "start another process"
    check(found == 3, "it goes on after a death", 3, found, fix)
