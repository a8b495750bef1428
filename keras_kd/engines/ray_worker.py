# SPDX-License-Identifier: Apache-2.0
"""What Ray starts on its machines: an actor that says who it is, and runs."""

from __future__ import annotations


def worker_class() -> type:
    """Returns the class of Ray's actors.

    From within a function, so that it is packed whole: a machine that lacks
    keras_kd, or has another one, is to say so itself.
    """

    class Worker:
        def begin(self, environment, path):
            import os
            import signal
            import socket
            import sys

            sys.path += [place for place in path if place not in sys.path]
            os.environ.update(environment)
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            # Ctrl-C goes to all of a terminal; the driver ends us.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                log = os.readlink("/proc/self/fd/2")
            except OSError:  # not on Linux
                log = f"the log that `ray logs` lists for pid {os.getpid()}"
            return f"{socket.gethostname()}:{log}", self.versions()

        @staticmethod
        def versions():
            import importlib.metadata
            import platform

            found = {"python": platform.python_version()}
            for package in ("keras_kd", "keras", "tensorflow"):
                try:
                    found[package] = importlib.metadata.version(package)
                except importlib.metadata.PackageNotFoundError:
                    found[package] = None
            return found

        def call(self, function, *arguments):
            from keras_kd.engines import worker

            return getattr(worker, function)(*arguments)

    return Worker
