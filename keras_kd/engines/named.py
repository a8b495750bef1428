# SPDX-License-Identifier: Apache-2.0
"""Engines by name, as an argument or a command line gives them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from keras_kd.engines.base import Engine
from keras_kd.engines.loky import Loky
from keras_kd.engines.ray import LOCAL
from keras_kd.engines.ray import Ray
from keras_kd.engines.serial import Serial

NAMES = ("serial", "loky", "ray")


def get(
    engine: Engine | str | None = None,
    workers: int = 1,
    log: str | os.PathLike | None = None,
) -> Engine:
    """Returns an engine: the one that is given, or a new one.

    Args:
        engine: An engine, or a name: `"serial"`, `"loky"` or `"ray"` (in the
            cluster that the environment variable `RAY_ADDRESS` names, else
            in one of its own on this machine). `None`: loky for several
            workers, else this process.
        workers: How many tasks a new one runs at a time.
        log: File for what processes of loky print.

    Raises:
        ValueError: If the name is not known.

    Example:

    ```python
    engine = kd.engines.get("serial")
    ```
    """
    check_engine(engine)
    if isinstance(engine, Engine):
        return engine
    name = engine or ("serial" if workers == 1 else "loky")
    if name == "loky":
        return Loky(workers, log=log)
    if name == "ray":
        return Ray(os.environ.get("RAY_ADDRESS") or LOCAL, workers)
    if workers != 1:
        raise ValueError(
            "Engine 'serial' has one worker. Expected workers=1, or one of "
            f"{NAMES[1:]}. Received: workers={workers}"
        )
    return Serial()


def check_engine(engine: Any) -> None:
    """Raises a ValueError unless `get` takes it."""
    if engine not in (None, *NAMES) and not isinstance(engine, Engine):
        raise ValueError(
            f"`engine` must be one of {NAMES}, an engine of kd.engines, or "
            f"None. Received: engine={engine!r}"
        )


@contextlib.contextmanager
def opened(
    engine: Engine | str | None,
    workers: int,
    log: str | os.PathLike | None = None,
) -> Iterator[Engine]:
    """Yields what `get` returns; closes it at the end, if it is new."""
    found = get(engine, workers, log)
    try:
        yield found
    finally:
        if found is not engine:
            found.close()
