# SPDX-License-Identifier: Apache-2.0
"""A process that publishes, and is killed at a given line of its own.

python tests/export/killing.py release BASE SECOND WORK
python tests/export/killing.py export FOLDER KILLS

TensorFlow is imported once; each kill happens to a fork. Between two system
calls of Python code there is a line, so the lines are all points there are
but for those inside one write.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time

from keras_kd.core.file_lock import LOCK
from keras_kd.core.records import file_sha256
from keras_kd.export.manifest import check_manifest
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.release import release
from keras_kd.export.publishing.staging import staging
from keras_kd.export.verification import directory
from keras_kd.export.verification.golden import read_golden

WATCHED = ("/keras_kd/", "/shutil.py")


class Lines:
    """Counts the lines that run; the process dies before the `last`."""

    def __init__(self, last=None):
        self.count, self.last = 0, last

    def __call__(self, frame, event, arg):
        if not any(part in frame.f_code.co_filename for part in WATCHED):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def forked(work, after=None):
    """Runs `work` in a fork; returns whether it was killed.

    Args:
        work: Called without arguments.
        after: Seconds after which the fork is killed.
    """
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    end = None if after is None else time.time() + after
    while True:
        done, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
        if done:
            break
        if time.time() >= end:
            os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.001)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "it failed by itself"
    return False


def contents(folder):
    """Returns the sha256 of every file a server or a user sees."""
    folder = pathlib.Path(folder)
    if folder.is_file():
        return {folder.name: file_sha256(folder)}
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.relative_to(folder).parts[0].startswith(".")
    }


def leftovers(folder):
    """Returns what a publisher left behind that it should have removed."""
    names = set(os.listdir(folder)) - {LOCK}
    return [name for name in names if name.startswith(".")]


def aged(folder):
    """Lets the leases of what was left behind run out; returns the folder."""
    for name in leftovers(folder):
        os.utime(folder / name, (0, 0))
    return folder


def publish_second(base, second):
    """Stages copies of another export's files, and releases them."""
    with staging(base) as folder, staging(base) as lite:
        shutil.copytree(second / "1", folder, dirs_exist_ok=True)
        staged = {"saved_model": folder}
        for path in second.glob("*.tflite"):
            for part in second.glob(f"{path.name}*"):
                shutil.copy(part, lite)
            staged[path.name] = lite / path.name
            write_manifest(lite / path.name)
        texts = {
            path.name: path.read_text() + "# second\n"
            for path in (second / "serving").iterdir()
            if path.name != "manifest.json"
        }
        release(staged, base, None, texts, say=lambda text: None)


def killed_releases(base, second, work):
    """Kills a release at line after line; prints what each left behind.

    At every 50th line until something is published, then at every fourth:
    there are more than that between two renames.

    Each different state of the folder, by which files are old, new or gone,
    is kept under its number in `work`; beside it lies what the next release
    made of it.
    """
    base, second, work = map(pathlib.Path, (base, second, work))
    # A kill loses nothing that was written, and this is many times faster.
    os.fsync = lambda descriptor: None
    before, states, points, last = contents(base), {}, [], 1
    while True:
        folder = work / "now" / base.name
        shutil.rmtree(work / "now", ignore_errors=True)
        shutil.copytree(base, folder)

        def publish(last=last, folder=folder):
            sys.settrace(Lines(last))
            publish_second(folder, second)

        killed = forked(publish)
        check_all(folder)
        found = contents(folder)
        files = {name: before.get(name) == found[name] for name in found}
        state = json.dumps(files)
        if state not in states:
            states[state] = name = len(states)
            shutil.copytree(folder, work / f"{name}" / base.name)
            again = work / f"{name}-again" / base.name
            aged(shutil.copytree(folder, again))
            forked(lambda again=again: publish_second(again, second))
        points.append(states[state])
        if not killed:
            break
        last += 50 if states[state] == 0 else 4
    print(json.dumps(points))


def check_all(base):
    """Raises unless all that has a final name is whole."""
    for path in base.iterdir():
        if path.name.isdigit() or path.name == "serving":
            check_manifest(path)
        elif path.suffix == ".tflite":
            check_manifest(path)
            read_golden(path)


def verify_new(base, sound):
    """Verifies each version and .tflite file whose bytes are not `sound`."""
    for path in base.iterdir():
        if path.name.isdigit() or path.suffix == ".tflite":
            beside = sorted(base.glob(f"{path.name}*"))
            state = json.dumps([contents(p) for p in beside])
            if state not in sound:
                assert not forked(lambda path=path: directory._check(path))
                sound.add(state)
    check_manifest(base / "serving")


def export_once(folder, last=None, told=None):
    """Exports a new model, version after version."""
    import keras

    # The package has a function of that name.
    export = importlib.import_module("keras_kd.export.export")

    keras.utils.set_random_seed(time.time_ns() % 2**31)
    model = keras.Sequential(
        [keras.Input((6,), name="x"), keras.layers.Dense(400)]
    )
    lines = Lines(last)
    released = export.release

    def seen(*args):
        told.write_text(json.dumps([lines.count]))
        return released(*args)

    if told:
        export.release = seen
    sys.settrace(lines)
    export.export(model, folder, "model", keep=3, verbose=False)
    sys.settrace(None)
    if told:
        told.write_text(
            json.dumps([*json.loads(told.read_text()), lines.count])
        )


def killed_exports(folder, kills):
    """Kills whole exports into one folder at random points, one by one.

    Half of the lines lie before the release and half in it; every fifth kill
    comes at a random time instead. Prints what is seen after each.
    """
    folder = pathlib.Path(folder)
    told, generator = folder / "lines.json", random.Random(0)
    forked(lambda: export_once(folder))
    started = time.time()
    forked(lambda: export_once(folder, told=told))
    seconds = time.time() - started
    before, total = json.loads(told.read_text())
    sound = set()
    verify_new(folder / "model", sound)
    seen = [["first", contents(folder / "model")]]
    while len(seen) <= int(kills):
        kind = ("staging", "release", "staging", "release", "time")[
            len(seen) % 5
        ]
        last = after = None
        if kind == "time":
            after = generator.uniform(0, seconds)
        else:
            ends = (1, before) if kind == "staging" else (before, total)
            last = generator.randint(*ends)
        if forked(lambda last=last: export_once(folder, last), after):
            verify_new(folder / "model", sound)
            seen.append([kind, contents(folder / "model")])
    aged(folder / "model")
    forked(lambda: export_once(folder))
    verify_new(folder / "model", sound)
    seen.append(["last", contents(folder / "model")])
    print(json.dumps(seen))


if __name__ == "__main__":
    how, *rest = sys.argv[1:]
    {"release": killed_releases, "export": killed_exports}[how](*rest)
