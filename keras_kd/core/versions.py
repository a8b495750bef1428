# SPDX-License-Identifier: Apache-2.0
"""Versions of packages: one that is too old is refused by its name."""

from __future__ import annotations

import functools
import importlib.metadata

OURS = "keras_kd"


def require(*packages: str, needed_by: str = OURS) -> None:
    """Raises if an installed package is older than keras_kd asks for.

    What is asked for stands in setup.cfg alone; pip wrote it beside the
    package. A package that is missing is told of by its own import.

    Args:
        packages: Names as pip has them.
        needed_by: The part that needs them.

    Raises:
        ImportError: With the version there, and the line that mends it.

    Example:

    ```python
    from keras_kd.core.versions import require

    require("keras", needed_by="Distiller")
    ```
    """
    for package in packages:
        wanted = _wanted().get(package)
        if wanted is None:
            continue
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not wanted.contains(found, prereleases=True):
            raise ImportError(
                f"{needed_by} needs {package}{wanted}. Received: {package} "
                f"{found}. Write pip install '{package}{wanted}'."
            )


@functools.cache
def _wanted():
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(OURS) or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        return {}
    found = [Requirement(line) for line in lines if "extra ==" not in line]
    return {one.name: one.specifier for one in found}
