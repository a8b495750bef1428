# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: a sentence, no child, no temporary file, and exit code 143."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.core.processes import is_running
from keras_kd.core.records import replacing
from keras_kd.engines import Loky

CHILD = (
    "import os, time\nwith open({!r}, 'w') as f: f.write(str(os.getpid()))\n"
    "time.sleep(60)"
)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_signal_ends_a_command_in_order(
    number, code, tmp_path, monkeypatch, capfd
):
    """While it writes a file, and waits for a process that it has started."""

    def work(directory):
        with replacing(directory / "report.json") as temporary:
            temporary.write_text("half")
            text = CHILD.format(str(directory / ".pid"))
            threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
            subprocess.run([sys.executable, "-c", text], check=False)

    # A shell has background jobs ignore SIGINT, the tests among them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before, began = signal.getsignal(signal.SIGTERM), time.monotonic()
    monkeypatch.setattr(kd.Report, "load", work)
    assert main(["report", str(tmp_path)]) == code
    assert signal.getsignal(signal.SIGTERM) is before
    err = capfd.readouterr().err
    assert err.strip().startswith("Stopped. Finished stages are kept")
    assert len(err.strip().splitlines()) == 1
    assert os.listdir(tmp_path) == [".pid"]
    with contextlib.suppress(ChildProcessError):  # nobody has to wait for it
        os.waitpid(int((tmp_path / ".pid").read_text()), 0)
    assert time.monotonic() - began < 30


def half_written():
    """Begins a temporary file in a worker, and does not get further."""
    import tempfile

    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "of_trial.keras"), "w") as file:
        file.write("half")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True])
def test_worker_leaves_no_file_and_outlives_no_driver(is_killed, tmp_path):
    """Whether the engine is closed, or its process dies by SIGKILL."""
    child = os.fork()
    if child == 0:
        engine = Loky(1, threads=1)
        folder = engine.submit(half_written).result()
        pid = engine.submit(os.getpid).result()
        mode = os.stat(engine._work).st_mode & 0o777
        told = tmp_path / ".told"
        told.write_text(f"{pid} {mode:o} {folder}")
        told.rename(tmp_path / "told")
        engine.submit(time.sleep, 60)
        if is_killed:
            time.sleep(60)
        engine.close()
        os._exit(0)
    while not (tmp_path / "told").exists():
        time.sleep(0.05)
    pid, mode, folder = (tmp_path / "told").read_text().split()
    assert mode == "700"
    if is_killed:
        assert os.path.isdir(folder)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 10
    while is_running(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(pid))
    assert not os.path.exists(os.path.dirname(folder))


def test_fresh_process_ends_with_its_parent(tmp_path):
    code = (
        "import os, time; from keras_kd.core.processes import end_with; "
        "end_with(os.getppid()); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); "
        "time.sleep(60)"
    )
    call = [sys.executable, "-c", code]
    parent = f"import subprocess; subprocess.run({call!r})"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        file = tmp_path / "pid"
        while not file.exists() or not file.read_text():
            time.sleep(0.02)
        process.kill()
    pid = int(file.read_text())
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)
