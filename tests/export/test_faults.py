# SPDX-License-Identifier: Apache-2.0
"""Killed or damaged: what has a final name is whole, or it is named."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import shutil
import threading

import numpy as np
import pytest

from export import releasing
from keras_kd.cli import main
from keras_kd.core.file_lock import LOCK
from keras_kd.core.records import file_sha256
from keras_kd.export import verify_directory
from keras_kd.export.manifest import check_manifest
from keras_kd.export.manifest import golden_path
from keras_kd.export.publishing.release import publish_file
from keras_kd.export.verification import directory
from keras_kd.export.verification.golden import read_golden


def test_releases_at_once_leave_files_of_one_publisher(
    copied, second, tmp_path
):
    """Versions get a number each; what keeps its name is never mixed."""
    base = copied.folder / "cnn"
    start, count = threading.Barrier(2), 5
    # Not `base` itself: it changes while it is copied.
    first = shutil.copytree(base, tmp_path / "first")

    def publish(source):
        start.wait()
        for _ in range(count):
            releasing.publish_second(base, source)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(publish, who) for who in (first, second)]:
            done.result()
    releasing.check_all(base)
    numbers = sorted(int(p.name) for p in base.iterdir() if p.name.isdigit())
    assert numbers == list(range(1, 2 * count + 2))
    golden = read_golden(base / "cnn.tflite")
    mine = [
        folder
        for folder in (first, second)
        if golden.sha256 == file_sha256(folder / "cnn.tflite")
    ]
    expected = read_golden(mine[0] / "cnn.tflite").expected["logits"]
    np.testing.assert_array_equal(golden.expected["logits"], expected)


def test_old_file_keeps_its_golden_answers_until_it_is_replaced(
    copied, second, tmp_path, monkeypatch
):
    """Killed before the last rename, twice: by two different publishers."""
    target, before = copied.tflite, copied.tflite.read_bytes()
    for number in range(2):
        staged = tmp_path / f"{number}" / "cnn.tflite"
        staged.parent.mkdir()
        shutil.copy(second / "cnn.tflite", staged)
        shutil.copy(golden_path(second / "cnn.tflite"), golden_path(staged))
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop_before(staged))
            with pytest.raises(KeyboardInterrupt):
                publish_file(staged, target)
        assert target.read_bytes() == before
        check_manifest(target)
        np.testing.assert_array_equal(
            read_golden(target).inputs["image"], copied.images
        )
    publish_file(staged, target)
    check_manifest(target)
    expected = read_golden(second / "cnn.tflite").expected["logits"]
    answers = read_golden(target).expected["logits"]
    np.testing.assert_array_equal(answers, expected)


def stop_before(path):
    replace = os.replace

    def stopping(source, target):
        if pathlib.Path(source) == path:
            raise KeyboardInterrupt
        replace(source, target)

    return stopping


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(content)


def test_verify_names_every_file_with_one_flipped_byte(
    copied, monkeypatch, capsys
):
    base = copied.folder / "cnn"
    # Files are compared before any is run; what runs is not damaged here.
    monkeypatch.setattr(directory, "verify", lambda *args: 0.0)
    assert main(["verify", str(base)]) == 0
    paths = [path for path in base.rglob("*") if path.is_file()]
    paths.remove(base / LOCK)  # it is empty, and no manifest speaks of it
    assert len(paths) == 16
    random = np.random.default_rng(0)
    for path in paths:
        sound = path.read_bytes()
        places = {0, len(sound) - 1, *random.integers(0, len(sound), 4)}
        for place in map(int, places):
            flip(path, place)
            capsys.readouterr()
            assert main(["verify", str(base)]) == 1, (path, place)
            failed = capsys.readouterr().out
            assert failed.count("FAILED") == 1
            assert str(path) in failed.partition("FAILED")[2]
            path.write_bytes(sound)
    assert main(["verify", str(base)]) == 0


def test_verify_leaves_alone_what_no_export_wrote(copied, monkeypatch):
    """A server's own settings may lie in a version, and change there."""
    monkeypatch.setattr(directory, "verify", lambda *args: 0.0)
    (copied.version / "batching_params.pbtxt").write_text("max_batch_size {}")
    (copied.folder / "cnn" / "notes.md").write_text("mine")
    # A writer was killed: the name was never final.
    (copied.folder / "cnn" / ".tmp-1-cnn.tflite").write_bytes(b"half")
    found = dict(verify_directory(copied.folder / "cnn"))
    assert set(found.values()) == {None} and len(found) == 3
