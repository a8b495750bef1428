# SPDX-License-Identifier: Apache-2.0
"""With verbose=0 nothing is printed, and otherwise something is."""

from __future__ import annotations

import re

import pytest

import keras_kd as kd
from saved_before import made_by
from selection import quick

# TensorFlow's own log, which TF_CPP_MIN_LOG_LEVEL silences, as `make test`
# does. Only its information: a warning would be told here.
NOTICE = re.compile(r"^I\d{4} \S+ +\d+ \S+:\d+\] .*\n+", re.MULTILINE)
TRAINING = {"epochs": 1, "batch_size": 32}


def compress(folder, verbose):
    kd.compress(
        made_by.build_teacher(),
        made_by.build_student,
        made_by.data(),
        folder / "run",
        search=2,
        seeds=(0,),
        prune_epochs=1,
        verbose=verbose,
        **TRAINING,
    )


def search(folder, verbose):
    kd.search(
        made_by.build_teacher(),
        made_by.build_student,
        made_by.data(),
        trials=2,
        confirm=1,
        directory=folder / "search",
        verbose=verbose,
        **TRAINING,
    )


def born_again(folder, verbose):
    kd.born_again(
        made_by.build_student, made_by.data(), 2, verbose=verbose, **TRAINING
    )


def teach_through(folder, verbose):
    kd.teach_through(
        made_by.build_teacher(),
        [made_by.build_student],
        made_by.data(),
        verbose=verbose,
        **TRAINING,
    )


def label(folder, verbose):
    cache = kd.TeacherCache(folder / "targets")
    cache.build(made_by.build_teacher(), made_by.split(96), verbose=verbose)
    cache.extend(made_by.build_teacher(), made_by.split(32, 1), verbose=verbose)


def export(folder, verbose):
    # A line of its own does for what is told; LiteRT has to be quiet, too.
    formats = ["saved_model"] if verbose else ["saved_model", "tflite"]
    kd.export(made_by.build_student(), folder, "it", formats, verbose=verbose)


@pytest.mark.parametrize(
    "work",
    quick(2, [label, export, born_again, teach_through, search, compress]),
)
def test_verbose_0_prints_nothing(work, tmp_path, capfd):
    work(tmp_path / "quiet", verbose=0)
    out, err = capfd.readouterr()
    assert (out, NOTICE.sub("", err)) == ("", "")
    work(tmp_path / "told", verbose=1)
    assert capfd.readouterr().out
