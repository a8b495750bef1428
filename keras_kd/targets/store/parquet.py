# SPDX-License-Identifier: Apache-2.0
"""Parquet files of answers: what a cluster writes and a cache is made of.

Each file says by itself what it holds (in the metadata of its schema), takes
its name by a rename, and is named after its samples. So files of several
runs, or machines, may lie in one folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np

from keras_kd.core.extras import import_extra
from keras_kd.core.records import replacing
from keras_kd.core.seals import reading

KEY = b"keras_kd"
MARKS = "fingerprint"


def write_file(
    folder: pathlib.Path, fields: dict[str, np.ndarray], facts: dict[str, Any]
) -> pathlib.Path:
    """Writes one file, whole or not at all.

    Args:
        folder: Where it goes.
        fields: Arrays `(samples, ...)` by name; one is `fingerprint`.
        facts: What to say of them, as JSON values.

    Returns:
        Its path.
    """
    pa = import_extra("pyarrow", "ray", "A file of Parquet")
    columns = {
        name: pa.array(array.reshape(-1))
        if array.ndim == 1
        else pa.FixedSizeListArray.from_arrays(
            pa.array(array.reshape(-1)), array[0].size
        )
        for name, array in fields.items()
    }
    shapes = {name: array.shape[1:] for name, array in fields.items()}
    text = json.dumps({"facts": facts, "shapes": shapes})
    table = pa.table(columns).replace_schema_metadata({KEY: text})
    digest = hashlib.sha256(fields[MARKS].tobytes()).hexdigest()
    path = folder / f"{digest[:32]}.parquet"
    pq = import_extra("pyarrow.parquet", "ray", "A file of Parquet")
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
    return path


def files_in(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the finished files of a folder, in order."""
    return sorted(pathlib.Path(folder).glob("[0-9a-f]*.parquet"))


def facts_of(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a file says of itself.

    Raises:
        ValueError: If `write_file` has not written it, or it is damaged.
    """
    return _described(path)["facts"]


def read_fields(
    path: pathlib.Path, names: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns fields of a file, all of them if no names are given.

    Raises:
        ValueError: As `facts_of`.
    """
    shapes = _described(path)["shapes"]
    pq = import_extra("pyarrow.parquet", "ray", "A file of Parquet")
    with _sound(path):
        table = pq.read_table(
            path, columns=names, page_checksum_verification=True
        )
        found = {}
        for name in table.column_names:
            column = table[name].combine_chunks()
            flat = column.flatten() if shapes[name] else column
            array = flat.to_numpy(zero_copy_only=False)
            found[name] = array.reshape(len(column), *shapes[name])
        return found


@contextlib.contextmanager
def _sound(path):
    with reading(path, "a file that kd.targets.label_with_ray wrote"):
        try:
            yield
        except OSError as error:  # pyarrow's, of content too
            raise ValueError(error) from error


def _described(path):
    pq = import_extra("pyarrow.parquet", "ray", "A file of Parquet")
    with _sound(path):
        return json.loads(pq.read_schema(path).metadata[KEY])
