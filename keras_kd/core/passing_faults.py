# SPDX-License-Identifier: Apache-2.0
"""Passing faults: errors of the machine, which are no verdict on a model.

A full disk, too little memory, a process that took too long or was killed:
the same may work next time, so none of them is ever kept as a result.

Needs nothing of this package, for processes that run a file by its path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys

PASSING = (OSError, MemoryError)
"""Includes `TimeoutError` and `ChildProcessError`."""
# A limit on how long files get (EFBIG) is met as a full disk is.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EROFS, errno.EIO)


def is_passing(error: BaseException) -> bool:
    """Tells whether an error comes of the machine, not of what was tried."""
    return isinstance(error, PASSING) or _says(error, _FULL + _DENIED)


def is_full_disk(error: BaseException) -> bool:
    """Tells whether an error comes of a full disk, whoever found it full."""
    return getattr(error, "errno", None) in _FULL or _says(error, _FULL)


def _says(error, numbers):
    # TensorFlow's own writers raise errors of its own.
    return any(os.strerror(number) in str(error) for number in numbers)


@contextlib.contextmanager
def telling_the_parent():
    """Ends a process so that `failure_of` knows whether the fault passes."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL if is_passing(error) else 1)
