# SPDX-License-Identifier: Apache-2.0
"""Versions: numbers, races, leftovers."""

from __future__ import annotations

import importlib
import os
import threading
import time

import pytest

from keras_kd.core import leases
from keras_kd.core.leases import STAGED
from keras_kd.core.records import file_sha256
from keras_kd.export import VerificationError
from keras_kd.export import check_manifest
from keras_kd.export import publish
from keras_kd.export.manifest import write_content
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.release import publish_file
from keras_kd.export.publishing.staging import staging
from keras_kd.export.publishing.versions import next_version

# The package's attribute of this name is the function.
MODULE = importlib.import_module("keras_kd.export.publishing.versions")


def fill(folder, content="model"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_text(content)
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.index").write_text(content)
    return folder


def test_publish_renames_what_was_staged_and_writes_its_manifest(tmp_path):
    with staging(tmp_path) as folder:
        assert folder.name.startswith(STAGED)
        version = publish(fill(folder), tmp_path)
    assert version == tmp_path / "1"
    assert os.listdir(tmp_path) == ["1"]
    assert set(check_manifest(version)) == {
        "saved_model.pb",
        "variables/variables.index",
    }


def test_publish_copies_a_folder_from_elsewhere(tmp_path):
    source = fill(tmp_path / "source")
    version = publish(source, tmp_path / "models")
    assert os.listdir(tmp_path / "models") == ["1"]
    assert (version / "saved_model.pb").read_text() == "model"
    assert (source / "saved_model.pb").exists()


def test_publish_of_an_old_folder_is_not_swept_by_others(tmp_path, monkeypatch):
    source, base = fill(tmp_path / "source"), tmp_path / "models"
    write_manifest(source)
    os.utime(source, (0, 0))

    def swept(folder):
        leases.sweep(base)  # as another publisher does first
        flush(folder)

    flush = MODULE.flush
    monkeypatch.setattr(MODULE, "flush", swept)
    assert publish(source, base) == base / "1"
    assert set(check_manifest(base / "1")) >= {"saved_model.pb"}


def test_publish_refuses_folder_without_model(tmp_path):
    with staging(tmp_path) as folder:
        with pytest.raises(ValueError, match="no saved_model.pb"):
            publish(folder, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "present, expected",
    [
        ([], 1),
        (["1", "2"], 3),
        (["0008", "-3", ".tmp-12", "v11", "10.tmp"], 9),
        (["-3"], 1),
        (["+7", " 9"], 10),
        (["1_000", "٣"], 1),
        (["20261123120000"], 20261123120001),
        (["99999999999999999999", "4"], 5),
        (["2", "damaged-3", "damaged-3-2", "damaged-x"], 4),
        ([str(2**63 - 2)], 2**63 - 1),
    ],
)
def test_next_version_counts_what_the_poller_counts(
    tmp_path, present, expected
):
    for name in present:
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == expected


def test_publish_refuses_to_follow_the_highest_number_there_is(tmp_path):
    base = tmp_path / "models"
    (base / str(2**63 - 1)).mkdir(parents=True)
    with pytest.raises(ValueError, match="none can come after it"):
        publish(fill(tmp_path / "s"), base)
    assert os.listdir(base) == [str(2**63 - 1)]


def test_publish_never_touches_an_existing_number(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "4").write_text("a file")
    assert publish(fill(tmp_path / "s"), tmp_path).name == "5"
    assert os.listdir(tmp_path / "3") == []
    assert (tmp_path / "4").read_text() == "a file"


def test_publish_takes_the_next_number_when_beaten_to_one(
    tmp_path, monkeypatch
):
    # The other publisher renames between our look and our rename.
    fill(tmp_path / "1", "theirs")
    numbers = iter([1, 2])
    monkeypatch.setattr(MODULE, "next_version", lambda _: next(numbers))
    version = publish(fill(tmp_path / "s", "ours"), tmp_path)
    assert version.name == "2"
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "theirs"
    assert (version / "saved_model.pb").read_text() == "ours"


def test_publishers_at_once_get_one_number_each(tmp_path):
    base, count = tmp_path / "models", 8
    sources = [fill(tmp_path / f"s{i}", f"model {i}") for i in range(count)]
    start, versions = threading.Barrier(count), []

    def run(source):
        start.wait()
        versions.append((publish(source, base), source))

    threads = [threading.Thread(target=run, args=(s,)) for s in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sorted(int(version.name) for version, _ in versions)
    assert numbers == list(range(1, count + 1))
    assert sorted(os.listdir(base)) == sorted(map(str, numbers))
    for version, source in versions:
        content = (source / "saved_model.pb").read_text()
        assert (version / "saved_model.pb").read_text() == content
        check_manifest(version)


def test_staging_removes_what_nobody_has_used_for_an_hour(
    tmp_path,
):
    """Whatever the process number and host in its name say."""
    token = "0123456789abcdef" * 2
    young = {f"{STAGED}{token}", f"{STAGED}1-{token}", f"{STAGED}99-h-{token}"}
    stale = {f"{STAGED}{token[::-1]}", f"{STAGED}{os.getpid()}-h-{token}"}
    others = {f"{STAGED}abc", "12", "damaged-3"}
    for name in young | stale | others:
        fill(tmp_path / name)
    for name in stale | others:
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / f"{STAGED}{'f' * 32}").symlink_to(tmp_path / "12")
    with staging(tmp_path):
        pass
    left = set(os.listdir(tmp_path)) - {f"{STAGED}{'f' * 32}"}
    assert left == young | others
    assert (tmp_path / "12" / "saved_model.pb").exists()


def test_staging_renews_its_lease_as_long_as_it_is_used(tmp_path, monkeypatch):
    """A second container, whose clock is the disk's, lets it be."""
    monkeypatch.setattr(leases, "RENEWAL", 0.01)
    with staging(tmp_path) as folder:
        os.utime(folder, (0, 0))
        deadline = time.monotonic() + 5
        while folder.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        with staging(tmp_path):
            assert folder.exists()


def test_staging_removes_its_folder_after_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with staging(tmp_path) as folder:
            fill(folder)
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_publish_file_killed_in_between_leaves_a_valid_file(
    tmp_path, monkeypatch
):
    target = tmp_path / "m.tflite"
    for content in ("one", "two"):
        (tmp_path / "new.tflite").write_text(content)
        publish_file(tmp_path / "new.tflite", target)
        assert target.read_text() == content
        check_manifest(target)
    # Killed twice after the manifest was written, before the rename.
    for content in ("three", "four"):
        (tmp_path / "new.tflite").write_text(content)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", _killed)
            with pytest.raises(KeyboardInterrupt):
                publish_file(tmp_path / "new.tflite", target)
        assert target.read_text() == "two"
        check_manifest(target)


def _killed(source, target):
    if str(source).endswith("new.tflite"):
        raise KeyboardInterrupt
    os.rename(source, target)


def test_publish_file_does_not_vouch_for_a_damaged_old_file(tmp_path):
    target = tmp_path / "m.tflite"
    target.write_text("damaged")
    write_content(target, {target.name: "0" * 64})
    (tmp_path / "new.tflite").write_text("new")
    publish_file(tmp_path / "new.tflite", target)
    old = tmp_path / "old"
    old.write_text("damaged")
    manifest = (tmp_path / "m.tflite.manifest.json").read_text()
    assert file_sha256(old) not in manifest
    target.write_text("damaged")
    with pytest.raises(VerificationError, match="m.tflite is damaged"):
        check_manifest(target)


def test_publish_adds_no_second_version_of_the_same(tmp_path):
    """After a kill between the publication and whatever records it."""

    def published(identity):
        with staging(tmp_path / "m") as folder:
            fill(folder, f"{identity}")
            write_manifest(folder, identity)
            return publish(folder, tmp_path / "m").name

    assert [published(i) for i in ("a", "a", "b", "a", None, None)] == list(
        "112345"
    )
    (tmp_path / "m" / "5" / "saved_model.pb").write_text("damaged")
    with staging(tmp_path / "m") as folder:
        fill(folder)
        write_manifest(folder, "a")
        assert publish(folder, tmp_path / "m").name == "6"
    assert not [n for n in os.listdir(tmp_path / "m") if n.startswith(".")]
