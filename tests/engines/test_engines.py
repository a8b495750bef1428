# SPDX-License-Identifier: Apache-2.0
"""Engines run what they are given, whatever dies."""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

import keras_kd as kd
from keras_kd import engines
from keras_kd import recipes
from keras_kd.core.processes import is_running
from keras_kd.engines import shipping
from selection import quick
from selection import slow


@pytest.mark.parametrize("make", [engines.Serial, engines.Loky])
def test_engine_keeps_its_promises(make):
    kd.testing.check_engine(make())


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        ({"submit": lambda self, f, *a: done(0)}, "results"),
        ({"share": lambda self, value: value[:-1]}, "shared values"),
        ({"here": False}, "where tasks run"),
    ],
)
def test_check_engine_names_the_promise_that_is_broken(broken, promise):
    engine = type("Broken", (engines.Serial,), broken)()
    with pytest.raises(kd.testing.ContractError, match=promise):
        kd.testing.check_engine(engine)


def done(value):
    future = concurrent.futures.Future()
    future.set_result(value)
    return future


class Odd(Exception):
    """Takes other arguments than it keeps, so that pickle cannot make it."""

    def __init__(self, first, second):
        super().__init__(first)


def ray_if_there(**options):
    pytest.importorskip("ray", reason="pip install 'keras_kd[ray]'")
    return engines.Ray(**options)


@pytest.mark.parametrize("make", quick(1, [engines.Loky, ray_if_there]))
def test_only_the_task_is_lost_whose_process_dies(make, tmp_path):
    died, ran = tmp_path / "died", tmp_path / "ran"

    def dies_once():
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def waits():
        with open(ran, "a") as file:
            file.write("once ")
        while not died.exists():
            time.sleep(0.01)
        time.sleep(0.3)

    def raises_what_cannot_travel():
        raise Odd(1, 2)

    with make(workers=2) as engine:
        beside = engine.submit(waits)
        engine.submit(dies_once).result()
        beside.result()
        assert (ran.read_text(), engine.lost) == ("once ", 1)
        with pytest.raises(RuntimeError, match="Odd: 1"):
            engine.submit(raises_what_cannot_travel).result()
        with pytest.raises(ValueError, match="tied to this process"):
            engine.submit(print, threading.Lock())


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"threads": 0}])
def test_loky_refuses_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="at least one worker"):
        engines.Loky(**wrong)


DRIVER = """
import os, sys, time
from keras_kd import engines
if __name__ == "__main__":
    with engines.get(sys.argv[1], 2) as engine:
        pids = {engine.submit(os.getpid).result() for _ in range(4)}
        both = [engine.submit(time.sleep, 60) for _ in range(2)]
        print(*pids, flush=True)
        both[0].result()
"""


@pytest.mark.parametrize("name", ["loky", slow("ray")])
@pytest.mark.parametrize("number", quick(1, [signal.SIGKILL, signal.SIGINT]))
def test_processes_end_with_the_one_that_started_them(name, number):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    pids = list(map(int, driver.stdout.readline().split()))
    assert len(pids) == 2
    # Python forgets a signal that comes just as a thread begins to wait.
    time.sleep(0.5)
    driver.send_signal(number)
    driver.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_functions_of_a_file_that_others_cannot_import_are_packed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def build_student():\n    return help_me()\n"
        "def help_me():\n    return 'a student'\n"
    )
    module = recipes.import_file(path)
    content = shipping.packed({"build": module.build_student})
    sys.modules.pop(module.__name__)  # as in a process that has not read it
    assert shipping.unpacked(content)["build"]() == "a student"


def test_modules_of_ones_own_are_packed_for_other_machines(
    tmp_path, monkeypatch
):
    (tmp_path / "on_my_path.py").write_text("def width():\n    return 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("on_my_path")
    content = shipping.packed((module.width, kd.Data), everywhere=True)
    monkeypatch.delitem(sys.modules, "on_my_path")
    monkeypatch.setattr(sys, "path", sys.path[1:])
    width, data = shipping.unpacked(content)
    assert width() == 7 and data is kd.Data


def test_ray_that_is_not_installed_is_named_with_its_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_kd\[ray\]'"):
        engines.get("ray")


def test_engines_have_names():
    assert isinstance(engines.get(), engines.Serial)
    assert engines.get(None, 2).slots == 2
    given = engines.Serial()
    assert engines.get(given, 3) is given
    for wrong in (("dask", 1), ("serial", 2)):
        with pytest.raises(ValueError, match="one of.*'ray'"):
            engines.get(*wrong)


def test_packing_imports_nothing():
    code = (
        "import sys, types\n"
        "class Lazy(types.ModuleType):\n"
        "    def __getattr__(self, name):\n"
        "        raise SystemExit('imported')\n"
        "sys.modules['keras_kd.lazy'] = Lazy('keras_kd.lazy')\n"
        "from keras_kd.engines import shipping\n"
        "shipping.packed(1)\n"
    )
    root = pathlib.Path(kd.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
