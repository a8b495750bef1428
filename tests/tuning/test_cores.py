# SPDX-License-Identifier: Apache-2.0
"""A process that leaves cores to others gets them back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from keras_kd.tuning.cores import share_of_cores

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="only Linux offers it"
)
CHILD = "import os; print(len(os.sched_getaffinity(0)))"


def cores():
    return os.sched_getaffinity(0)


def cores_of_child():
    return int(subprocess.check_output([sys.executable, "-c", CHILD]))


def test_share_of_cores_is_given_back_also_after_an_error():
    before = cores()
    with pytest.raises(KeyError), share_of_cores(2):
        assert len(cores()) == max(1, len(before) // 2)
        raise KeyError
    assert cores() == before


def test_more_processes_than_cores_leave_one_each():
    with share_of_cores(10_000):
        assert len(cores()) == 1


def test_other_threads_share_too_but_one_keeps_all():
    before, found = cores(), {}
    go_on, ready = threading.Event(), threading.Barrier(3)

    def look(name):
        ready.wait()
        go_on.wait()
        found[name] = cores()
        found[name, "child"] = cores_of_child()

    threads = {
        name: threading.Thread(target=look, args=(name,))
        for name in ("worker", "watch")
    }
    for thread in threads.values():
        thread.start()
    ready.wait()
    with share_of_cores(len(before), but=threads["watch"].native_id):
        go_on.set()
        for thread in threads.values():
            thread.join()
    assert len(found["worker"]) == found["worker", "child"] == 1
    assert found["watch"] == before
    assert found["watch", "child"] == len(before)
