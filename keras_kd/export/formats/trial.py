# SPDX-License-Identifier: Apache-2.0
"""The fresh process of `check_runs`: does a .tflite file work at all?

Run by its path, `python trial.py MODEL.tflite [REQUEST.npz]`; a file that is
wrong may abort it.
"""

from __future__ import annotations

import os
import pathlib
import sys

import numpy as np


def main(path: str, request: str | None = None) -> None:
    """Loads a file and answers a request, an .npz of arrays by name.

    Without one it answers zeros, or only loads a file of text or open sizes.
    """
    from litert_runner import LiteRTRunner

    print("loading", flush=True)
    runner = LiteRTRunner(path)
    if request is not None:
        print("answering a request", flush=True)
        runner(dict(np.load(request)))
    elif runner.takes_zeros:
        print("answering zeros", flush=True)
        shapes = {n: np.maximum(1, t.shape) for n, t in runner.inputs.items()}
        runner({name: np.zeros(shape) for name, shape in shapes.items()})


if __name__ == "__main__":
    # What needs nothing of this package is imported without it.
    sys.path.append(str(pathlib.Path(__file__).parents[2] / "core"))
    from passing_faults import telling_the_parent
    from processes import end_with

    end_with(os.getppid())
    with telling_the_parent():
        main(*sys.argv[1:])
