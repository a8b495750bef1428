# SPDX-License-Identifier: Apache-2.0
"""Files of arrays by name, whatever the names are.

It needs NumPy only, and nothing of this package.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping

import numpy as np


def save_arrays(path: str | os.PathLike, arrays: Mapping) -> None:
    """Writes an .npz file, which `np.load` reads.

    `np.savez` takes the names as keywords, so none of them could be `file`,
    which is a good name for a model's input.
    """
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(
                    file, np.asarray(array), allow_pickle=False
                )
