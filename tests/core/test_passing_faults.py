# SPDX-License-Identifier: Apache-2.0
"""What the machine did is told apart from what a model did."""

from __future__ import annotations

import errno
import os
import signal

import pytest
import tensorflow as tf

from keras_kd.core import passing_faults
from keras_kd.core.fresh_process import failure_of
from keras_kd.core.passing_faults import is_passing

TELLING = (
    "import sys; sys.path.append(sys.argv[1])\n"
    "from passing_faults import telling_the_parent\n"
    "with telling_the_parent(): raise "
)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        TimeoutError("too long"),
        ChildProcessError("killed"),
        MemoryError(),
        RuntimeError(f"{os.strerror(errno.ENOSPC)}; variables.data"),
        tf.errors.ResourceExhaustedError(
            None, None, os.strerror(errno.ENOSPC) + "; x.index"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_fault_of_the_machine_passes(error):
    assert is_passing(error)


def test_refusal_of_a_model_does_not_pass():
    assert not is_passing(RuntimeError("op not supported"))
    assert not is_passing(ValueError("shapes differ"))


def run(code, **options):
    folder = os.path.dirname(passing_faults.__file__)
    return failure_of(["-c", code, folder], **options)


def test_fresh_process_that_crashes_or_raises_is_a_verdict():
    assert "aborted by signal 6" in run("import os; os.abort()")
    assert "unlike" in run(TELLING + "ValueError('unlike')")


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (TELLING + "OSError(28, 'No room')", OSError, "No room"),
        (TELLING + "MemoryError()", OSError, "MemoryError"),
        (
            f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})",
            ChildProcessError,
            "killed",
        ),
    ],
    ids=["full", "memory", "killed"],
)
def test_fresh_process_that_met_a_passing_fault_is_none(code, kind, text):
    with pytest.raises(kind, match=text):
        run(code)


def test_fresh_process_that_takes_too_long_is_no_verdict():
    with pytest.raises(TimeoutError, match="did not end within 0 seconds"):
        run("import time; time.sleep(9)", timeout=0.2)
