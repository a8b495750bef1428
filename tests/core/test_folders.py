# SPDX-License-Identifier: Apache-2.0
"""A folder that cannot be written to is refused before anything is done."""

from __future__ import annotations

import errno
import os
import pickle

import pytest

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.core import folders
from keras_kd.core.folders import FullDiskError
from keras_kd.core.folders import check_folder
from keras_kd.core.folders import telling_of_a_full_disk
from keras_kd.core.folders import work_folder
from keras_kd.core.leases import STAGED
from keras_kd.core.passing_faults import is_passing
from keras_kd.core.records import replacing

NOBODY = 65534


def never(*args, **kwargs):
    raise AssertionError("it began")


# What writes, by what it is given as its folder; all else is never looked at.
WRITERS = {
    "compress": lambda path: kd.compress(never, never, never, path / "m"),
    "search": lambda path: kd.search(never, never, never, directory=path),
    "cache": lambda path: kd.TeacherCache(path).build(never, never),
    "born_again": lambda path: kd.born_again(never, never, directory=path),
    "teach_through": lambda path: kd.teach_through(
        never, [never], never, directory=path
    ),
    "export": lambda path: kd.export(never, path, "m"),
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


@pytest.fixture
def as_nobody(tmp_path):
    """For the time of a test no superuser, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    for name in ("compress", "search", "born_again", "teach_through", "export"):
        getattr(kd, name)  # what it imports may be readable by root alone
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.name.startswith(("pytest-", "popen-")):
            folder.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("odd", ["a[1]", "b\\c", "d*e", "f?g"])
@pytest.mark.parametrize("name", ["compress", "export"])
def test_paths_that_tensorflow_takes_for_patterns_are_refused(
    odd, name, tmp_path
):
    with pytest.raises(ValueError, match="TensorFlow cannot read models from"):
        WRITERS[name](tmp_path / odd)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("odd", ["h i", "j'k", "ü", "l{m}", "p:q", "~t"])
def test_other_odd_paths_are_taken(odd, tmp_path):
    assert check_folder(tmp_path / odd / "x", of_models=True).is_absolute()


def test_file_where_the_folder_should_be(write, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file. Expected"):
        write(tmp_path / "file" / "x")


def test_link_that_leads_nowhere(write, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(NotADirectoryError, match="a link that leads nowhere"):
        write(tmp_path / "link")


@pytest.mark.parametrize("name", ["compress", "export"])
def test_linked_folder_of_a_model_is_refused_at_once(name, tmp_path):
    (tmp_path / "m").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is a link to another place"):
        WRITERS[name](tmp_path)


def test_no_permission_is_one_sentence_with_the_path(
    write, tmp_path, as_nobody
):
    if os.access in os.supports_effective_ids:
        with pytest.raises(PermissionError, match="no permission to write"):
            write(tmp_path if os.stat(tmp_path).st_uid == 0 else "/proc")


def test_full_disk_is_noticed_before_work_begins(write, tmp_path, monkeypatch):
    real = os.statvfs

    def full(path):
        found = list(real(path))
        found[4] = 0  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(folders.os, "statvfs", full)
    with pytest.raises(FullDiskError, match="The disk of .* is full"):
        write(tmp_path)
    assert not os.listdir(tmp_path)


def test_files_of_others_in_a_folder_of_all_are_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")
    (tmp_path / "stages").mkdir()
    planted = tmp_path / "stages" / "teacher.json"
    planted.write_text("{}")
    os.chown(planted, NOBODY, NOBODY)
    check_folder(tmp_path)  # who may write there is trusted
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="teacher.json is another user"):
        check_folder(tmp_path)
    planted.unlink()
    check_folder(tmp_path)


def test_full_disk_is_named_once_whoever_found_it(tmp_path):
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("RESOURCE_EXHAUSTED: No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("OUT_OF_RANGE: saved_model.pb; File too large"),
    ):
        with pytest.raises(FullDiskError) as found:
            staged = tmp_path / f"{STAGED}1" / "inner"
            with telling_of_a_full_disk("outer"), replacing(staged):
                raise error
        assert str(found.value).startswith(f"The disk of {tmp_path} is full")
        assert found.value.errno == errno.ENOSPC
        assert not os.listdir(staged.parent)
        assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)
    with pytest.raises(KeyError):
        with telling_of_a_full_disk("outer"):
            raise KeyError("no disk")
    assert is_passing(RuntimeError("x; Permission denied"))


def test_work_folder_is_for_one_user_and_gone_at_the_end():
    with work_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_command_line_tells_a_full_disk_in_one_sentence(
    tmp_path, monkeypatch, capsys
):
    def full(options):
        with replacing(tmp_path / "report.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kd.Report, "load", full)
    assert main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"keras-kd: The disk of {tmp_path} is full.")
    assert err.count("\n") == 1
