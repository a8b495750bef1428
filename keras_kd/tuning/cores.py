# SPDX-License-Identifier: Apache-2.0
"""Leaving some of the machine's cores to other processes for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def share_of_cores(processes: int, but: int | None = None) -> Iterator[None]:
    """Keeps this process on its share of the cores while the block runs.

    How many threads TensorFlow has is settled when it starts, so it would go
    on using all cores, and take turns with the processes beside it. Does
    nothing where a system does not offer it (only Linux does).

    Args:
        processes: How many share the cores, this one included.
        but: Native id of a thread that keeps all cores. What it starts
            inherits them.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    _keep_on(cores[: max(1, len(cores) // processes)], but)
    try:
        yield
    finally:
        _keep_on(cores, but)


def _keep_on(cores, but):
    # Of each thread; those that are made later have what their maker has.
    for name in os.listdir("/proc/self/task"):
        if int(name) != but:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                os.sched_setaffinity(int(name), cores)
