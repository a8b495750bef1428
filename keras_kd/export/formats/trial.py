# SPDX-License-Identifier: Apache-2.0
"""check_runs(): whether LiteRT loads and runs a file, tried in a new process.

A .tflite file that is wrong may abort the process that loads it, so it is
never loaded first by the one that made it. Run by its path,
`python trial.py MODEL.tflite`, this file is that process.
"""

from __future__ import annotations

import os
import subprocess
import sys


def check_runs(path: str | os.PathLike, timeout: float = 300.0) -> None:
    """Loads a .tflite file in a new process and answers zeros with it.

    Args:
        path: A .tflite file with one signature.
        timeout: Seconds that the process may take.

    Raises:
        RuntimeError: If LiteRT cannot load or run the file, or dies of it.
    """
    try:
        # By its path: `-m` would import keras_kd, and with it TensorFlow.
        process = subprocess.run(
            [sys.executable, __file__, os.path.abspath(path)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"The model converted, but LiteRT did not run the result within "
            f"{timeout:.0f} seconds."
        ) from error
    code = process.returncode
    if code:
        how = f"is aborted by signal {-code}" if code < 0 else "fails"
        raise RuntimeError(
            f"The model converted, but LiteRT cannot run the result: it {how} "
            f"while {(process.stdout.splitlines() or ['starting'])[-1]}. "
            f"Received: {process.stderr.strip()[-500:]}"
        )


def main(path: str) -> None:
    """Loads a file and runs it once on zeros."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    print("loading", flush=True)
    runner = Interpreter(model_path=path).get_signature_runner()
    print("answering zeros", flush=True)
    runner(
        **{
            name: np.zeros(
                [max(1, size) for size in detail["shape_signature"]],
                detail["dtype"],
            )
            for name, detail in runner.get_input_details().items()
        }
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (RuntimeError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
