# SPDX-License-Identifier: Apache-2.0
"""Labelled in several processes, a cache is the one that one process makes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import keras_kd as kd
from keras_kd.engines import Engine
from keras_kd.engines import Loky
from keras_kd.engines import shipping
from selection import quick
from targets.labelled import build
from targets.labelled import contents
from targets.labelled import samples
from targets.labelled import teacher


class Elsewhere(Engine):
    """Hands tasks over as to a process, and runs them in a thread."""

    slots = 3

    def __init__(self):
        self.pool, self.tasks, self.most = ThreadPoolExecutor(1), [], 0
        self.second = threading.Event()
        # Nothing ends before there are two.
        self.pool.submit(self.second.wait, 30)

    def share(self, value):
        return shipping.unpacked(shipping.packed(value))

    def submit(self, function, *arguments):
        function, arguments = shipping.unpacked(
            shipping.packed((function, arguments))
        )
        self.tasks.append(self.pool.submit(function, *arguments))
        under_way = sum(not task.done() for task in self.tasks)
        self.most = max(self.most, under_way)
        if self.most > 1:
            self.second.set()
        return self.tasks[-1]


@pytest.mark.parametrize(
    "options",
    quick(
        1,
        [
            {"taps": ("output", "hidden"), "dtype": "float16"},
            {},
            {"top_k": 2},
            {"augment": lambda x, seed: x + 1.0, "views": 2},
        ],
    ),
)
def test_files_are_those_of_one_process(tmp_path, options):
    options = dict(options)
    views = options.pop("views", 1)

    def label(folder, **given):
        if views == 1:
            return build(tmp_path / folder, **options, **given)
        cache = kd.TeacherCache(
            tmp_path / folder, views=views, shard_size=300, dtype="float32"
        )
        fixed = {"batch_size": 64, "verbose": 0, **options}
        return cache.build(teacher(), (samples(),), **fixed, **given)

    label("alone")
    engine = Elsewhere()
    label("beside", engine=engine)
    assert contents(tmp_path / "alone") == contents(tmp_path / "beside")
    assert 1 < engine.most <= 2 * engine.slots
    count = len(engine.tasks)
    label("beside", engine=engine)
    assert len(engine.tasks) == count  # all is kept


def test_what_is_kept_is_not_asked_again(tmp_path):
    whole = contents(build(tmp_path / "whole").directory)
    build(tmp_path / "cut", x=samples())
    for name in ("manifest.json", "shards/00001/shard.json"):
        (tmp_path / "cut" / name).unlink()
    engine = Elsewhere()
    build(tmp_path / "cut", engine=engine)
    assert len(engine.tasks) == 5  # of 300 samples in batches of 64
    assert contents(tmp_path / "cut") == whole


def test_a_bad_answer_is_told_with_its_place(tmp_path):
    x = samples()
    x[700, 0] = np.inf  # a ReLU hides NaN
    with pytest.raises(ValueError, match="for sample 700 of the data set"):
        build(tmp_path, x=x, engine=Elsewhere())
    with pytest.raises(ValueError, match="Expected agreement=None"):
        build(tmp_path / "other", agreement=0.9, engine=Elsewhere())


@pytest.mark.slow
def test_two_processes_label_as_one(tmp_path):
    build(tmp_path / "alone")
    with Loky(2) as engine:
        build(tmp_path / "beside", engine=engine)
    assert contents(tmp_path / "alone") == contents(tmp_path / "beside")
