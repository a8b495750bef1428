# SPDX-License-Identifier: Apache-2.0
"""A package that is too old is refused by name, where it is needed."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

from keras_kd.core.versions import require

installed = importlib.metadata.version


def with_version(monkeypatch, package, version):
    def told(name):
        return version if name == package else installed(name)

    monkeypatch.setattr(importlib.metadata, "version", told)


def test_installed_versions_are_accepted():
    require("keras", "tensorflow", "keras-tuner", "no-such-package")


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("keras", "3.5.0"),
        ("tensorflow", "2.16.2"),
        ("tensorflow-model-optimization", "0.7.5"),
    ],
)
def test_older_version_is_refused_by_name(monkeypatch, package, version):
    with_version(monkeypatch, package, version)
    with pytest.raises(ImportError) as caught:
        require(package, needed_by="This part")
    assert f"This part needs {package}>=" in str(caught.value)
    assert f"Received: {package} {version}." in str(caught.value)
    assert f"pip install '{package}>=" in str(caught.value)


@pytest.mark.parametrize(
    ("package", "module", "part"),
    [
        ("keras-tuner", "keras_kd.tuning", "search"),
        ("ai-edge-litert", "keras_kd.export.formats.litert", "LiteRT"),
    ],
)
def test_part_refuses_when_it_is_imported(monkeypatch, package, module, part):
    loaded = importlib.import_module(module)
    with_version(monkeypatch, package, "0.1")
    with pytest.raises(ImportError, match=f"{part}.* needs {package}>="):
        importlib.reload(loaded)


def test_pruning_refuses_an_old_tfmot(monkeypatch):
    from keras_kd import pruning

    with_version(monkeypatch, "tensorflow-model-optimization", "0.7.5")
    with pytest.raises(ImportError, match=r"Pruning needs .*0\.7\.5"):
        pruning.import_tfmot()


def test_package_refuses_an_old_keras_before_it_is_imported():
    code = (
        "import importlib.metadata as m; old = m.version; "
        "m.version = lambda n: '2.15.0' if n == 'keras' else old(n); "
        "import sys, keras_kd\n"
        "try: keras_kd.Distiller\n"
        "except ImportError as error: print(error, 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert "keras_kd needs keras>=" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("False")
