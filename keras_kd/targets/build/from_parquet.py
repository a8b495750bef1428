# SPDX-License-Identifier: Apache-2.0
"""A cache made of the Parquet files of a cluster."""

from __future__ import annotations

import hashlib
import os
import pathlib

from keras_kd.core.folders import check_folder
from keras_kd.core.leases import sweep
from keras_kd.targets.build.building import locked
from keras_kd.targets.inference.engines import KERAS
from keras_kd.targets.inference.engines import Engine
from keras_kd.targets.store import manifest as manifests
from keras_kd.targets.store import parquet
from keras_kd.targets.store import shards


def take_parquet(source: str | os.PathLike, into: str | os.PathLike) -> None:
    """Makes a cache of the files that `label_with_ray` wrote.

    Each file becomes a shard, with its sha256; one is in memory at a time.

    Args:
        source: Folder of the files.
        into: Folder of the cache.

    Raises:
        ValueError: If there are none, one is damaged, they are of several
            teachers or options, or `into` holds another cache.
    """
    files = parquet.files_in(source)
    if not files:
        raise ValueError(
            f"{source} must be a folder that kd.targets.label_with_ray has "
            "written to. Received: one without a Parquet file of it."
        )
    into = pathlib.Path(into)
    check_folder(into)
    facts = parquet.facts_of(files[0])
    settings = {**facts["settings"], "part": None}
    with locked(into):
        manifests.settle(into, settings)
        folder = into / manifests.SHARDS
        sweep(folder, lease=0)
        written, first, digest = [], 0, hashlib.sha256()
        for number, path in enumerate(files):
            own = parquet.facts_of(path)
            manifests.compare_settings(own["settings"], facts["settings"], path)
            fields = parquet.read_fields(path)
            marks = fields[parquet.MARKS]
            how = {
                "encodings": own["encodings"],
                "labelled_with": _own_call(settings),
            }
            shard = shards.write_shard(folder, number, first, fields, how)
            written.append(shard)
            first += len(marks)
            digest.update(marks.tobytes())
        whole = {"samples": first, "sha256": digest.hexdigest()}
        shapes = facts["sample_shapes"]
        manifests.write_manifest(into, written, whole, {}, shapes)


def _own_call(settings):
    """Returns what a shard says that the teacher itself has labelled."""
    agreement = 1.0 if "output" in settings["taps"] else None
    return Engine(KERAS, iter, agreement).description
