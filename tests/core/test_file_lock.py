# SPDX-License-Identifier: Apache-2.0
"""One process at a time, and a dead one keeps nobody out."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys

import pytest

from keras_kd.core.file_lock import LOCK
from keras_kd.core.file_lock import file_lock

HOLDER = """
import sys, time
from keras_kd.core.file_lock import file_lock
with file_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder `tmp_path / "f"`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "f")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_file_lock_refuses_in_words_what_another_process_holds(
    tmp_path, holder
):
    with pytest.raises(ValueError, match="^wait for it$"):
        with file_lock(tmp_path / "f", "wait for it"):
            pass
    with file_lock(tmp_path / "other", "wait for it"):
        pass


def test_file_lock_waits_until_the_other_process_is_dead(tmp_path, holder):
    def hold():
        with file_lock(tmp_path / "f"):
            return "mine"

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hold)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        holder.kill()
        assert waiting.result(timeout=10) == "mine"


def test_file_lock_lets_go_after_an_error_and_leaves_one_empty_file(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            with file_lock(tmp_path / "f", "held"):
                raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "f").iterdir()] == [LOCK]
    assert (tmp_path / "f" / LOCK).read_bytes() == b""
