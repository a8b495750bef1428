# SPDX-License-Identifier: Apache-2.0
"""The harness: every stage under every fault, compared with an untouched run.

python -m faults.harness [--seconds S] [STAGE ...]

TensorFlow is imported once and used in forks only, each of which runs one
stage. A fault is survived if the same call, made again without it, returns
what it returns without any; or if a damaged file is refused by name.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time

from faults import mutations
from faults.stages import LEFT
from faults.stages import STAGES
from faults.stages import by_name
from faults.stages import fresh

LOST, SILENT, SURVIVED, REFUSED = "lost", "silent", "survived", "refused"
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OPERATIONS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


class Operations:
    """Counts what a process does to files in a folder; ends it at one."""

    def __init__(self, folder, last=None):
        self.folder, self.last, self.count = str(folder), last, 0
        sys.addaudithook(self)

    def __call__(self, event, args):
        is_open = event == "open" and isinstance(args[2], int)
        if not (event in OPERATIONS or (is_open and args[2] & WRITES)):
            return
        if self.folder not in str(args[0]):
            return
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def begin(stage, folder, answer, last=None, size=None):
    """Starts a fork that runs a stage; returns its number.

    Args:
        answer: File for what it returned or raised.
        last: The file operation before which it is killed.
        size: No file can get longer.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        operations = Operations(folder, last)
        if size is not None:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            told = {"result": stage(folder)}
        except (ValueError, OSError) as error:
            told = {"error": str(error), "code": getattr(error, "code", None)}
        except BaseException as error:
            told = {"crash": f"{type(error).__name__}: {error}"}
        if size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        told["operations"] = operations.count
        answer.write_text(json.dumps(told))
        code = 0
    finally:
        os._exit(code)


def end(child, answer):
    """Waits for a fork; returns what it told, `{}` if it was killed."""
    os.waitpid(child, 0)
    with contextlib.suppress(FileNotFoundError):
        told = json.loads(answer.read_text())
        answer.unlink()
        return told
    return {}


class Trial:
    """One stage in one folder, run any number of times."""

    def __init__(self, stage, work, whole):
        self.stage, self.work, self.whole = stage, work, whole
        self.folder, self.answer = work / "m", work / "answer.json"

    def once(self, **fault):
        return end(self.start(**fault), self.answer)

    def start(self, answer=None, **fault):
        return begin(self.stage, self.folder, answer or self.answer, **fault)

    def again(self):
        """Judges what a fault has left, then a run without one."""
        try:
            LEFT.get(self.stage, str)(self.folder)
        except (ValueError, OSError) as error:
            return LOST, f"left half: {error}"
        return self.verdict(self.once())

    def verdict(self, told):
        """Judges a run without a fault that came after one."""
        if "result" not in told:
            return LOST, told.get("error") or told.get("crash") or "it died"
        same = told["result"] == self.whole["result"]
        return (SURVIVED, "") if same else (SILENT, "another result")


def kill(trial, rng):
    """SIGKILL before a file operation."""
    total = trial.whole["operations"]
    at = rng.randint(1, total)
    told = trial.once(last=at)
    if told:
        return LOST, f"it was not killed at {at} of {total}"
    return trial.again()


def full(trial, rng):
    """No room from some size of a file on; then there is."""
    told = trial.once(size=rng.choice(trial.whole["sizes"]))
    if "crash" in told:
        return LOST, told["crash"]
    if "error" in told and not told["error"]:
        return LOST, "an error that says nothing"
    if told.get("code") not in (None, 2):
        return LOST, f"it ended with {told['code']}"
    return trial.again()


def damage(trial, rng):
    """A file of the finished stage is flipped, cut, emptied or deleted."""
    shutil.copytree(trial.whole["folder"], trial.folder, dirs_exist_ok=True)
    files = [p for p in sorted(trial.folder.rglob("*")) if p.is_file()]
    path = rng.choice([p for p in files if p.name != ".lock"])
    change = rng.choice(mutations.DAMAGES)
    change(path, rng)
    told = trial.once()
    what = f"{change.__name__} {path.relative_to(trial.folder)}"
    if "error" in told:
        about = any(p in told["error"] for p in (path.name, path.parent.name))
        return (REFUSED, "") if about else (LOST, f"{what}: {told['error']}")
    found, why = trial.verdict(told)
    return found, f"{what}: {why}"


def two(trial, rng):
    """Two processes do the same in one folder at once."""
    answers = [trial.work / "one.json", trial.work / "two.json"]
    children = []
    for answer in answers:
        children.append(trial.start(answer))
        time.sleep(rng.uniform(0, 0.3))
    told = [end(*pair) for pair in zip(children, answers, strict=True)]
    crashes = [one["crash"] for one in told if "crash" in one]
    if crashes:
        return LOST, crashes[0]
    if not any("result" in one for one in told):
        return LOST, f"neither got through: {told}"[:300]
    return trial.again()


def stop(trial, rng):
    """SIGTERM, or Ctrl-C, at some time."""
    number, code = rng.choice([(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    child = trial.start()
    time.sleep(rng.uniform(0.05, 0.95) * trial.whole["seconds"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    told = end(child, trial.answer)
    if told.get("code") not in (None, code):
        return LOST, f"it ended with {told['code']} on {number}"
    if told.get("code"):
        left = [p for p in trial.folder.rglob(".*tmp-*") if p.exists()]
        if left:
            return LOST, f"it left {left[0].name}"
    return trial.again()


FAULTS = (kill, full, damage, two, stop)


def whole(stage, work):
    """Runs a stage without a fault; what all others are compared with."""
    work.mkdir()
    folder, answer = fresh(work), work / "answer.json"
    began = time.monotonic()
    told = end(begin(stage, folder, answer), answer)
    seconds = time.monotonic() - began
    if "result" not in told:
        raise RuntimeError(f"{stage.__name__} does not run: {told}")
    sizes = {p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    sizes = sorted(size - 1 for size in sizes if size)
    return {**told, "folder": folder, "seconds": seconds, "sizes": sizes}


def table(names, seconds, seed=0, most=10**6):
    """Tries faults until the time is over; yields rows of the table.

    Args:
        names: Of the stages.
        seconds: For each stage; each fault is tried at least once.
        seed: Of what is drawn.
        most: Tries of each fault.
    """
    for name in names:
        stage, rng = by_name(name), random.Random(f"{name} {seed}")
        with tempfile.TemporaryDirectory(prefix="keras_kd-faults-") as work:
            work = pathlib.Path(work)
            untouched = whole(stage, work / "whole")
            counts = {f.__name__: collections.Counter() for f in FAULTS}
            failures, began = [], time.monotonic()
            for number in range(most):
                for fault in FAULTS:
                    late = time.monotonic() - began > seconds
                    if late and number:
                        break
                    if fault is two and name == "run":
                        continue  # two runs in one folder are not promised
                    folder = work / f"{fault.__name__}-{number}"
                    fresh(folder)
                    trial = Trial(stage, folder, untouched)
                    found, why = fault(trial, rng)
                    counts[fault.__name__][found] += 1
                    if found in (LOST, SILENT):
                        failures.append(f"{name}, {fault.__name__}: {why}")
                    shutil.rmtree(folder)
                if late and number:
                    break
        yield name, counts, failures


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=55)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=10**6)
    options = parser.parse_args(arguments)
    names = options.names or [stage.__name__ for stage in STAGES]
    kinds = ("tries", SURVIVED, REFUSED, LOST, SILENT)
    print(f"| stage | fault | {' | '.join(kinds)} |")
    print("| :-- | :-- | --: | --: | --: | --: | --: |")
    failures, total = [], collections.Counter()
    how = options.seconds, options.seed, options.most
    for name, counts, failed in table(names, *how):
        for fault, found in counts.items():
            if found:
                row = [found.total(), *(found[kind] for kind in kinds[1:])]
                cells = " | ".join(map(str, row))
                print(f"| {name} | {fault} | {cells} |", flush=True)
                total += found
        failures += failed
    cells = [total.total(), *(total[kind] for kind in kinds[1:])]
    print(f"| all | | {' | '.join(map(str, cells))} |")
    print(*failures, sep="\n")
    return len(failures)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
