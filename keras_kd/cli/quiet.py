# SPDX-License-Identifier: Apache-2.0
"""Start-up without noise: TensorFlow's notices, held back while it loads."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Imports TensorFlow and Keras without their notices on stderr."""
    # Later notices; what goes wrong is raised as an error anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with held_stderr():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # its advice to programmers
        # Looks for GPUs, which it also talks about, and sets nothing up.
        tf.config.list_physical_devices()


@contextlib.contextmanager
def held_stderr():
    """Keeps what the block writes to file descriptor 2, C++ code included.

    It is written after all if the block raises: then it may say why.
    """
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # there is none, as in a daemon
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
