# SPDX-License-Identifier: Apache-2.0
"""Fuzzing: what the commands say of folders that are not as they were.

python -m faults.fuzzing TRIES [SEED]
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import io
import pathlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from unittest import mock

import numpy as np

from faults import mutations
from keras_kd.cli import main
from keras_kd.core.printable import printable
from keras_kd.core.records import StageRecord
from keras_kd.report import Report
from keras_kd.targets.cache import TeacherCache
from keras_kd.tuning.trials.study_file import read_study

# The package's attribute of this name is the function.
verify = importlib.import_module("keras_kd.export.verification.verify")
BEFORE = pathlib.Path(__file__).parents[1] / "saved_before"


def read_cache(folder):
    """Reads all that a cache holds, as `attach` does."""
    cache = TeacherCache.open(folder)
    found = cache.read(np.arange(len(cache)))
    return cache.encodings, cache.fingerprints, found


# What is asked of a folder of each kind: commands, and what they share with
# the library.
ASKED = {
    "run": (
        lambda folder: main(["report", str(folder)]),
        lambda folder: main(["verify", str(folder)]),
        lambda folder: Report.load(folder).to_html(b"png"),
    ),
    "targets/dense": (
        lambda folder: main(["targets", "info", str(folder)]),
        lambda folder: main(["targets", "verify", str(folder)]),
        lambda folder: main(["verify", str(folder)]),
        read_cache,
    ),
    "search": (read_study, lambda folder: main(["verify", str(folder)])),
}
ASKED["targets/sparse"] = ASKED["targets/dense"]


def fresh(folder: pathlib.Path) -> pathlib.Path:
    """Returns a copy of the files kept in tests, sealed as of today."""
    shutil.copytree(BEFORE, folder, dirs_exist_ok=True)
    for path in (folder / "run" / "stages").glob("*.json"):
        StageRecord.load(path).save(path)
    Report.load(folder / "run").save()
    return folder


def fuzz(folder, tries, seed=0, seconds=float("inf")):
    """Mutates files one at a time; returns counts and what went wrong.

    Expected of each command: it succeeds, or says what is wrong by a
    ValueError or OSError, which the command line tells in words. No
    traceback, no escape code on the terminal, nothing of the folder run.

    Args:
        folder: What `fresh` returned.
        tries: How many mutations.
        seed: One seed gives one sequence.
        seconds: Time after which no further one is begun.
    """
    rng, end = random.Random(seed), time.monotonic() + seconds
    counts, faults = collections.Counter(), []
    # No process is started: what they do is not in question here.
    unasked = mock.patch.object(verify, "_ask", lambda _, r, *__: [{}] * len(r))
    kinds = [k for k in ASKED for _ in range(4 if k == "run" else 1)]
    for _ in range(tries):
        if time.monotonic() > end:
            break
        root = folder / rng.choice(kinds)
        files = sorted(p for p in root.rglob("*") if p.is_file())
        path = rng.choice(files)
        change = rng.choice(mutations.ALL)
        ask = rng.choice(ASKED[str(root.relative_to(folder))])
        with mutations.Kept(path):
            change(path, rng)
            with unasked:
                found, fault = _answer(ask, root)
        counts[found] += 1
        for mark in list(root.rglob(".ran")):
            mark.unlink()
            fault = "code of the folder was run"
        if fault:
            name = path.relative_to(folder)
            faults.append(f"{change.__name__} {name}: {fault}")
    return counts, faults


def _answer(ask, root):
    """Returns `("fine" or "refused", None)`, or with what is wrong of it."""
    out, began = io.StringIO(), time.monotonic()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = ask(root)
        found = "refused" if code in (1, 2) else "fine"
    except (ValueError, OSError) as error:
        found = "refused"
        out.write(printable(error) if str(error) else "")
        if not str(error):
            return found, "an error that says nothing"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{pathlib.Path(last.filename).name}:{last.lineno}"
        return "crashed", f"{type(error).__name__}: {error!s:.80} at {where}"
    text = out.getvalue()
    if printable(text) != text:
        return found, f"sent to the terminal: {text[:200]!r}"
    if "Traceback" in text:
        return found, f"a traceback: {text[-300:]}"
    if time.monotonic() - began > 30:
        return found, "took half a minute"
    return found, None


if __name__ == "__main__":
    tries, seed = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        counts, faults = fuzz(fresh(pathlib.Path(name)), tries, seed)
    for fault, count in collections.Counter(faults).most_common():
        print(f"{count:>6}  {fault}")
    print(
        dict(counts), f"{len(faults)} faults, {time.monotonic() - began:.0f} s"
    )
    sys.exit(bool(faults))
