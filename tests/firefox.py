# SPDX-License-Identifier: Apache-2.0
"""Firefox without a window, spoken to by its own Marionette protocol."""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

BODY = {"using": "css selector", "value": "body"}


def find():
    """Returns the path of Firefox, or `None`."""
    return shutil.which("firefox") or shutil.which("firefox-esr")


class Browser:
    """One window, of any width."""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with open(f"{self.profile.name}/user.js", "w") as preferences:
            preferences.write(f'user_pref("marionette.port", {port});\n')
        self.process = subprocess.Popen(
            [find(), "--headless", "--marionette", "--no-remote"]
            + ["--profile", self.profile.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.socket = self._connected(port)
        self._read()
        self.count = 0
        self.send("WebDriver:NewSession", {})
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        self.profile.cleanup()

    def _connected(self, port):
        for _ in range(300):
            try:
                return socket.create_connection(("127.0.0.1", port), 60)
            except OSError:
                time.sleep(0.2)
        raise RuntimeError("Firefox does not answer.")

    def _read(self):
        digits = b""
        while (one := self.socket.recv(1)) != b":":
            digits += one
        content = b""
        while len(content) < int(digits):
            content += self.socket.recv(int(digits) - len(content))
        return json.loads(content)

    def send(self, command, arguments):
        """Returns the value that a WebDriver command answers."""
        self.count += 1
        message = json.dumps([0, self.count, command, arguments])
        self.socket.sendall(f"{len(message)}:{message}".encode())
        _, _, error, value = self._read()
        if error:
            raise RuntimeError(error["message"])
        return value

    def open(self, address, width, height=900):
        """Loads a page in a frame of a width, in CSS pixels.

        The window itself is never narrower than 500.
        """
        path = pathlib.Path(self.profile.name) / "frame.html"
        style = f"border: 0; width: {width}px; height: {height}px"
        frame = f'<iframe src="{address}" style="{style}"></iframe>'
        path.write_text(f"<!DOCTYPE html><body>{frame}</body>", "utf-8")
        self.send("WebDriver:SwitchToFrame", {"id": None})
        self.send("WebDriver:Navigate", {"url": path.as_uri()})
        self.send("WebDriver:SwitchToFrame", {"id": 0})

    def run(self, script):
        """Returns what a JavaScript function body returns."""
        arguments = {"script": script, "args": []}
        return self.send("WebDriver:ExecuteScript", arguments)["value"]

    def screenshot(self):
        """Returns what is in the frame as PNG, in base64."""
        element = self.send("WebDriver:FindElement", BODY)["value"]
        arguments = {"id": next(iter(element.values())), "full": False}
        return self.send("WebDriver:TakeScreenshot", arguments)["value"]
