# SPDX-License-Identifier: Apache-2.0
"""release(): all files of one export take their final names."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

from keras_kd.export.publishing.publish import publish
from keras_kd.export.publishing.replacement import publish_file
from keras_kd.export.publishing.replacement import publish_folder
from keras_kd.export.publishing.staging import staging
from keras_kd.export.serving.serving_files import FOLDER


def release(
    staged: dict[str, pathlib.Path],
    base_dir: str | os.PathLike,
    keep: int | None,
    texts: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, pathlib.Path]:
    """Publishes what was verified: a version, then the .tflite files.

    A kill or a full disk in between leaves what was published so far; no
    file under a final name is ever half of one.

    Args:
        staged: A SavedModel's folder by `"saved_model"`, .tflite files by
            their kind; all made by `staging(base_dir)`.
        base_dir: The model's folder.
        keep: See `publish`.
        texts: The serving files of the SavedModel, see `serving_files`.
        say: Told of each.

    Returns:
        The published paths, by the same names.
    """
    base_dir = pathlib.Path(base_dir)
    published = {}
    with staging(base_dir) as folder:
        if "saved_model" in staged:
            # All is written before the first file is published.
            for name, text in texts.items():
                (folder / name).write_text(text, "utf-8")
            version = publish(staged["saved_model"], base_dir, keep)
            published["saved_model"] = version
            say(f"published {version}")
            publish_folder(folder, base_dir / FOLDER)
    for kind, path in staged.items():
        if kind != "saved_model":
            published[kind] = publish_file(path, base_dir / path.name)
            say(f"published {published[kind]}")
    return published
