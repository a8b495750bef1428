# SPDX-License-Identifier: Apache-2.0
"""Out of disk: an error that says so, and nothing half under a final name."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
import subprocess

import keras
import pytest

from export import releasing
from keras_kd.export import export
from keras_kd.export import verify_directory

layers = keras.layers


@dataclasses.dataclass
class Disk:
    """A small disk of its own."""

    path: pathlib.Path

    @contextlib.contextmanager
    def left(self, free):
        """Leaves so many bytes of it inside the block."""
        found = os.statvfs(self.path)
        size = found.f_bavail * found.f_frsize - free
        filler = self.path / "filler"
        filler.write_bytes(b"x" * size)
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs", path]
    mounted = subprocess.run(["mount", *options], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk to fill: mounting one takes root")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.slow
def test_release_on_a_full_disk_leaves_whole_files(exported, second, disk):
    base = disk.path / "cnn"
    shutil.copytree(exported.folder / "cnn", base)
    before, failures = releasing.contents(base / "1"), 0
    # Page by page: at each size another write is the first to fail.
    for pages in range(64):
        try:
            with disk.left(4096 * pages):
                releasing.publish_second(base, second)
        except OSError as error:
            assert os.strerror(errno.ENOSPC) in str(error)
            failures += 1
        else:
            break
        finally:
            releasing.check_all(base)
            assert releasing.contents(base / "1") == before
            assert not releasing.leftovers(base)
    assert failures > 10
    assert (base / "2").is_dir()


@pytest.mark.slow
def test_export_on_a_full_disk_says_so_and_goes_on_when_there_is_room(disk):
    model = keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(40), layers.Dense(3)]
    )
    export(model, disk.path, "model", verbose=False)
    base = disk.path / "model"
    before, who = releasing.contents(base / "1"), set()
    # The weights, the graph, the warm-up records, the .tflite file, the rest.
    for kilobytes in (0, 8, 20, 40, 60, 80, 100):
        with disk.left(1024 * kilobytes), contextlib.suppress(OSError):
            try:
                export(model, disk.path, "model", verbose=False)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert f"disk of {base} is full" in str(error)
                who.add(type(error.__cause__).__name__)
                raise
        releasing.check_all(base)
        assert releasing.contents(base / "1") == before
        assert not releasing.leftovers(base)
    assert {"ResourceExhaustedError", "OSError"} <= who
    export(model, disk.path, "model", verbose=False)
    assert not [found for _, found in verify_directory(base) if found]
