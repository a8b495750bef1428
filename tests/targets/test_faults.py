# SPDX-License-Identifier: Apache-2.0
"""Killed, damaged, out of disk, in parts: a cache loses nothing."""

from __future__ import annotations

import errno
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import keras_kd as kd
from keras_kd.core import checksummed_json
from keras_kd.targets.build import labelling
from keras_kd.targets.build.building import locked
from keras_kd.targets.store import shards
from targets.labelled import build
from targets.labelled import contents
from targets.labelled import samples
from targets.labelled import teacher

X = samples()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache that nothing happened to."""
    path = tmp_path_factory.mktemp("whole")
    build(path)
    return path


def stop_at(monkeypatch, name, count):
    """Makes the `count`-th call of a function of shards.py fail."""
    calls = []
    original = getattr(shards, name)

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) == count:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(shards, name, stop)


def test_finished_shards_are_not_labelled_again(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, "sync_folder", 5)
        with pytest.raises(OSError):
            build(tmp_path)
    assert shards.shards_on_disk(tmp_path / "shards") == [0, 1]
    with pytest.raises(ValueError, match="not finished"):
        len(kd.TeacherCache.open(tmp_path))
    written = []
    monkeypatch.setattr(
        labelling,
        "write_shard",
        lambda *args: written.append(args[1]) or shards.write_shard(*args),
    )
    build(tmp_path)
    assert written == [2, 3]
    assert contents(tmp_path) == contents(whole)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << (place % 8)
    path.write_bytes(content)


def test_one_flipped_byte_is_found_in_every_file(tmp_path, whole):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    sound = contents(tmp_path)
    cache = kd.TeacherCache.open(tmp_path)
    assert [path for path, _ in cache.verify()] and not any(
        problem for _, problem in cache.verify()
    )
    assert {path for path, _ in cache.verify()} == set(sound)
    rng = np.random.default_rng(0)
    for path, content in sound.items():
        places = rng.integers(0, len(content), 5)
        for place in [0, len(content) - 1, *places]:
            flip(tmp_path / path, int(place))
            found = [p for p, problem in cache.verify() if problem]
            assert path in found, (path, place)
            (tmp_path / path).write_bytes(content)


def test_damaged_shard_is_refused_by_name_and_healed(tmp_path, whole):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    sound = contents(tmp_path)
    files = [path for path in sound if path.startswith("shards")]
    # One of each kind; the test above damages all of them.
    for path in {pathlib.Path(path).name: path for path in files}.values():
        flip(tmp_path / path, 130)
        with pytest.raises(ValueError, match=pathlib.Path(path).name):
            kd.TeacherCache.open(tmp_path).read(np.arange(1000))
        build(tmp_path)
        assert contents(tmp_path) == sound
    (tmp_path / files[0]).unlink()
    with pytest.raises(ValueError, match="missing"):
        kd.TeacherCache.open(tmp_path).read([0])
    build(tmp_path)
    assert contents(tmp_path) == sound


def test_damaged_manifest_is_refused_and_written_anew(tmp_path, whole):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    flip(tmp_path / "manifest.json", 99)
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        len(kd.TeacherCache.open(tmp_path))
    build(tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_manifest_that_lacks_anything_is_refused_in_words(tmp_path, whole):
    """Sealed anew, as by somebody who knows how."""
    folder = tmp_path / "cache"
    shutil.copytree(whole, folder)
    path = folder / "manifest.json"
    content = checksummed_json.read_checksummed(path)
    refused = []
    for part in (content, content["settings"]):
        for name in sorted(part):
            value = part.pop(name)
            checksummed_json.write_checksummed(path, content)
            part[name] = value
            try:
                kd.TeacherCache.open(folder).info()
            except ValueError:
                refused.append(name)
    assert {"settings", "shards", "labelled_with", "views"} <= {*refused}


def test_order_that_changes_is_refused_on_resume(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, "sync_folder", 5)
        with pytest.raises(OSError):
            build(tmp_path)
    other = X.copy()
    other[[310, 311]] = other[[311, 310]]
    with pytest.raises(ValueError, match="Sample 310 of the data set"):
        build(tmp_path, other)
    with pytest.raises(ValueError, match="ends after sample 299"):
        build(tmp_path, X[:300])


def test_parts_merge_to_the_single_build(tmp_path, whole):
    parts = [tmp_path / str(i) for i in range(3)]
    for index, path in enumerate(parts):
        build(path, part=(index, 3))
    assert len(kd.TeacherCache.open(parts[0])) == 400
    cache = kd.TeacherCache.merge(parts[::-1], into=tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(whole)
    # A merge that was killed goes on.
    shutil.rmtree(tmp_path / "merged" / "shards" / "00001")
    (tmp_path / "merged" / "manifest.json").unlink()
    cache = kd.TeacherCache.merge(parts, into=tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(whole)
    with pytest.raises(ValueError, match="merge the parts"):
        kd.TeacherCache.open(parts[0]).extend(teacher(), (X,))
    assert len(cache) == 1000


def test_merge_refuses_what_does_not_belong_together(tmp_path, whole):
    def part(name, index, **kwargs):
        build(tmp_path / name, part=(index, 2), **kwargs)
        return tmp_path / name

    first, second = part("first", 0), part("second", 1)
    moved = X.copy()
    moved[0, 0] += 1  # of the first part: the second's own shards agree
    for parts, text in [
        ([first], "all parts of one data set"),
        ([first, first], "all parts of one data set"),
        ([whole], "all parts of one data set"),
        ([first, part("teacher", 1, who=teacher(seed=9))], "teacher: "),
        ([first, part("data", 1, x=moved)], "data: "),
        ([first, tmp_path], "finished part"),
    ]:
        with pytest.raises(ValueError, match=text):
            kd.TeacherCache.merge(parts, into=tmp_path / "into")
    flip(second / "shards" / "00001" / "tap0.values.npy", 200)
    with pytest.raises(ValueError, match="tap0.values.npy is damaged"):
        kd.TeacherCache.merge([first, second], into=tmp_path / "into")
    assert not (tmp_path / "into" / "manifest.json").exists()


def test_merge_notices_a_shard_that_no_part_lists(tmp_path):
    parts = [tmp_path / str(i) for i in range(2)]
    for index, path in enumerate(parts):
        build(path, part=(index, 2))
    content = checksummed_json.read_checksummed(parts[0] / "manifest.json")
    content["shards"].pop()
    checksummed_json.write_checksummed(parts[0] / "manifest.json", content)
    with pytest.raises(ValueError, match="do not make up the data set"):
        kd.TeacherCache.merge(parts, into=tmp_path / "into")


def test_engine_of_an_older_version_is_read_but_not_continued(tmp_path):
    build(tmp_path)
    record = tmp_path / "shards" / "00000" / "shard.json"
    content = checksummed_json.read_checksummed(record)
    content["facts"]["labelled_with"]["engine"] = "litert"
    checksummed_json.write_checksummed(record, content)
    (tmp_path / "manifest.json").unlink()
    cache = build(tmp_path)  # nothing was left to label
    used = [one["engine"] for one in cache.info()["labelled_with"]]
    assert used == ["litert", "keras"]
    (tmp_path / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "shards" / "00003")
    with pytest.raises(ValueError, match="'litert'.*into another directory"):
        build(tmp_path)


def test_two_processes_do_not_label_into_one_folder(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ValueError, match="Another process"):
            build(tmp_path)
    build(tmp_path)


def start(directory, *part):
    script = pathlib.Path(__file__).parent / "labelled.py"
    call = [sys.executable, str(script), str(directory), *map(str, part)]
    return subprocess.Popen(
        call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_processes_label_parts_at_once(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    parts = [tmp_path / str(i) for i in range(3)]
    running = [start(path, i, 3) for i, path in enumerate(parts)]
    assert [process.wait() for process in running] == [0, 0, 0]
    kd.TeacherCache.merge(parts, into=tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
