# SPDX-License-Identifier: Apache-2.0
"""Only what is ours, and old, is swept."""

from __future__ import annotations

import os
import time

from keras_kd.core.leases import LEASE
from keras_kd.core.leases import STAGED
from keras_kd.core.leases import sweep
from keras_kd.core.leases import temporary_name
from keras_kd.core.records import StageRecord
from keras_kd.core.stage_cache import StageFolder

TOKEN = "0123456789abcdef" * 2


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def test_sweep_removes_old_ones_of_ours_only(tmp_path):
    ours = [f".tmp-{TOKEN}-report.json", temporary_name(), f"{STAGED}{TOKEN}"]
    others = [".tmp-mine", f".tmp-{TOKEN[1:]}-a", f"x.tmp-{TOKEN}"]
    for name in ours + others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        aged(tmp_path / name, LEASE + 60)
    young = aged(tmp_path / ours[0], LEASE - 60)
    link = tmp_path / temporary_name(name="link")
    link.symlink_to(tmp_path / others[0])
    aged(link, LEASE + 60)
    sweep(tmp_path)
    assert set(os.listdir(tmp_path)) == {young.name, link.name, *others}
    sweep(tmp_path, lease=0)
    assert set(os.listdir(tmp_path)) == {link.name, *others}
    sweep(tmp_path / "none")


def test_next_stage_sweeps_what_a_killed_one_has_left(tmp_path):
    left = tmp_path / temporary_name(name="student.keras")
    left.write_text("half")
    make = lambda: (None, StageRecord("a", "a"))  # noqa: E731
    StageFolder(tmp_path).run("a", 1, make)
    assert left.exists()  # somebody may be writing it
    aged(left, LEASE + 60)
    StageFolder(tmp_path).run("b", 1, make)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]
