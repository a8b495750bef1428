# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time

import numpy as np
import pytest

from keras_kd.recipes import _fetch
from keras_kd.recipes import _sources

CONTENT = {"a": b"first file", "b": b"second file"}
HASHES = {k: hashlib.sha256(v).hexdigest() for k, v in CONTENT.items()}
IDX = np.array([0x803, 2, 3, 4], ">u4").tobytes() + bytes(range(24))


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_KD_HOME", str(tmp_path))


def refuse():
    raise OSError("no network")


def test_fetch_caches_what_a_source_delivers(tmp_path):
    assert _fetch.fetch("set", HASHES, {"web": lambda: CONTENT}) == CONTENT
    cached = tmp_path / "datasets" / "set"
    assert sorted(path.name for path in cached.iterdir()) == ["a", "b"]
    assert _fetch.fetch("set", HASHES, {"web": refuse}) == CONTENT


def test_fetch_goes_on_to_the_next_source(capsys):
    sources = {"web": refuse, "disk": lambda: CONTENT}
    assert _fetch.fetch("set", HASHES, sources) == CONTENT
    lines = capsys.readouterr().err
    assert "trying the cache" in lines
    assert "trying web" in lines and "no network" in lines
    assert "trying disk" in lines


def test_fetch_refuses_a_flipped_byte_and_caches_nothing(tmp_path):
    damaged = CONTENT | {"b": b"second fIle"}
    with pytest.raises(FileNotFoundError, match="b is missing or damaged"):
        _fetch.fetch("set", HASHES, {"web": lambda: damaged})
    assert not (tmp_path / "datasets").exists()


def test_fetch_replaces_a_damaged_cache(tmp_path):
    _fetch.fetch("set", HASHES, {"web": lambda: CONTENT})
    file = tmp_path / "datasets" / "set" / "a"
    file.write_bytes(b"first fil")
    assert _fetch.fetch("set", HASHES, {"web": lambda: CONTENT}) == CONTENT
    assert file.read_bytes() == CONTENT["a"]


def test_fetch_refuses_a_source_that_lacks_a_file():
    with pytest.raises(FileNotFoundError, match="b is missing or damaged"):
        _fetch.fetch("set", HASHES, {"web": lambda: {"a": CONTENT["a"]}})


def test_fetch_error_names_every_try_and_reason(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        _fetch.fetch("set", HASHES, {"web": refuse, "package": refuse})
    message = str(caught.value)
    assert f"the cache {tmp_path}" in message
    assert "web: OSError: no network" in message
    assert "package: OSError: no network" in message
    assert "['a', 'b']" in message  # what to put there by hand


def test_home_defaults_to_the_users_cache(monkeypatch):
    monkeypatch.delenv("KERAS_KD_HOME")
    assert _fetch.home().parts[-2:] == (".cache", "keras_kd")


def test_download_gives_up_on_a_silent_host():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # never answers
        started = time.perf_counter()
        with pytest.raises(OSError):
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            _sources.download(url, seconds=0.3)
        assert time.perf_counter() - started < 5


def serve(content, break_after=None):
    """Yields a server of one file that breaks the first answer off."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            seen.append(asked)
            start = int(asked[6:-1]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            stop = break_after if len(seen) == 1 else None
            self.wfile.write(content[start:stop])

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/", seen


@pytest.mark.parametrize("tries", [3, 1])
def test_broken_download_goes_on_where_it_stopped(tmp_path, tries):
    content = bytes(range(256)) * 40
    server, url, seen = serve(content, break_after=1000)
    if tries == 1:
        with pytest.raises(OSError, match="ended after 1000 of 10240"):
            _sources.download(url, tries=1)
    assert _sources.download(url, tries=tries) == content
    assert seen == [None, "bytes=1000-"]
    assert not list((tmp_path / "downloads").iterdir())
    server.shutdown()


def test_debian_package_says_which_tool_is_missing(monkeypatch):
    monkeypatch.setattr(_sources.shutil, "which", lambda tool: None)
    with pytest.raises(OSError, match="apt-get is not on this machine"):
        with _sources.debian_package("dataset-fashion-mnist"):
            pass


def test_run_reports_what_the_command_said(tmp_path):
    with pytest.raises(OSError, match="ls failed: .*no-such-file"):
        _sources.run(["ls", "no-such-file"], tmp_path)


def test_parse_idx_reads_header_and_content():
    array = _fetch.parse_idx(IDX)
    assert IDX[:8] == b"\0\0\x08\x03\0\0\0\x02"
    assert array.shape == (2, 3, 4)
    assert array.tobytes() == bytes(range(24))


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "Expected an idx file"),
        (b"\x1f\x8b\x08\x00rest", "Received: 1f 8b 08 00"),
        (IDX[:2] + b"\x0d" + IDX[3:], "Expected an idx file"),  # floats
        (IDX[:9], "Expected an idx file"),
        (IDX[:-1], r"shape \(2, 3, 4\). Received 23 bytes"),
        (IDX + b"\0", "Received 25 bytes"),
    ],
)
def test_parse_idx_refuses_what_is_no_idx_file(content, fragment):
    with pytest.raises(ValueError, match=fragment):
        _fetch.parse_idx(content)
