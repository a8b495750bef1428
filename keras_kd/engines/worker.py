# SPDX-License-Identifier: Apache-2.0
"""What runs in the processes of an engine, and what marks a shared value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_kd.engines import shipping

_VALUES: dict[int, Any] = {}


@dataclasses.dataclass(frozen=True)
class Shared:
    """Stands for a value that a process receives once."""

    number: int


def numbers_of(arguments: Sequence[Any]) -> set[int]:
    """Returns which shared values are among the arguments of a task."""
    return {one.number for one in arguments if isinstance(one, Shared)}


def environment(threads: int) -> dict[str, str]:
    """Returns what TensorFlow reads when it starts, for so many threads."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {
        **dict.fromkeys((*names, "OMP_NUM_THREADS"), str(threads)),
        # A process that is not alone on a card must not take all of it.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }


def receive(number: int, content: bytes) -> None:
    """Keeps a shared value for the tasks to come."""
    _VALUES[number] = shipping.unpacked(content)


def run(content: bytes) -> bytes:
    """Runs a task; returns what `answer_of` takes."""
    try:
        with shipping.portable_errors():
            function, arguments = shipping.unpacked(content)
            value = function(
                *[
                    _VALUES[one.number] if isinstance(one, Shared) else one
                    for one in arguments
                ]
            )
            return shipping.packed((True, value))
    except Exception as error:
        return shipping.packed((False, error))


def answer_of(content: bytes, log: str | None) -> Any:
    """Returns what a task has returned, or raises what it has raised."""
    succeeded, value = shipping.unpacked(content)
    if succeeded:
        return value
    if log is not None:
        value.add_note(f"That process prints to {log}")
    raise value
