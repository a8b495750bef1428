# SPDX-License-Identifier: Apache-2.0
"""Environment: the machine and versions that figures were taken with."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
from typing import Any

PACKAGES = (
    "keras_kd",
    "keras",
    "tensorflow",
    "ai-edge-litert",
    "keras-tuner",
    "tensorflow-model-optimization",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Returns versions, machine, CPU and cores as plain JSON values."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
    }


def cpu_name() -> str | None:
    """Returns the name of the CPU, or `None` where it is not known."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.split(":", 1)[1] for line in lines if "model name" in line)
    return next((name.strip() for name in names), None)


def describe(found: dict[str, Any]) -> str:
    """Returns an `environment()` as one sentence."""
    versions = ", ".join(
        f"{package} {version}"
        for package, version in found["versions"].items()
        if version is not None
    )
    cpu = found["cpu"] or found["machine"]
    return (
        f"Measured on {cpu}, {found['cores']} cores, "
        f"Python {found['python']}, {versions}."
    )
