# SPDX-License-Identifier: Apache-2.0
"""`import keras_kd` is light and leaves the process as it found it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import keras_kd

# Keras itself loads matplotlib and scikit-learn where they are installed.
HEAVY = (
    "keras_tuner",
    "tensorflow_model_optimization",
    "tf_keras",
    "ai_edge_litert",
    "keras_hub",
    "ray",
)


def test_export_is_its_package_from_the_first_use_on(imported):
    assert imported["export"]


def test_command_line_is_read_before_tensorflow():
    """So that it can hold back the notices with which TensorFlow loads."""
    use = "import sys, keras_kd.cli; sys.exit('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", use], timeout=120)
    assert done.returncode == 0


@pytest.mark.parametrize("package", HEAVY)
def test_import_does_not_load(imported, package):
    assert package not in imported["before"]  # else nothing could be seen
    assert package not in imported["loaded"]


def test_import_leaves_the_environment_unchanged(imported):
    assert imported["environ"] == []


def test_import_leaves_tf_keras_at_keras_3(imported):
    assert imported["tf_keras"].startswith("3.")


def test_all_is_sorted_and_without_repeats():
    assert list(keras_kd.__all__) == sorted(set(keras_kd.__all__))


def test_all_names_are_importable():
    missing = [n for n in keras_kd.__all__ if not hasattr(keras_kd, n)]
    assert not missing, f"in keras_kd.__all__ but not importable: {missing}"
