# SPDX-License-Identifier: Apache-2.0
"""Arrays in a file under any names, which np.savez takes for arguments.

It needs NumPy only, and nothing of this package.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping

import numpy as np


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, object]) -> None:
    """Writes an .npz file that `np.load` reads.

    `np.savez` has a parameter of its own, `file`, which may be an input's
    name.

    Args:
        path: Of the file, its ending included.
        arrays: Arrays by name; none holds objects.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(
                    file, np.asanyarray(array), allow_pickle=False
                )
