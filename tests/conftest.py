# SPDX-License-Identifier: Apache-2.0
"""What every test starts from: two CPU devices, one seed, no leftovers."""

from __future__ import annotations

import gc
import os
import sys

import pytest

IMPORTED = {}


def pytest_configure(config):
    """Starts TensorFlow where tests run.

    A process that only deals tests out to others (`-n`) needs none of it.
    """
    if not config.getoption("numprocesses", None):
        two_devices()
        IMPORTED.update(package_alone())


def two_devices():
    """Gives TensorFlow a second CPU.

    MirroredStrategy needs two devices, and devices are fixed once TensorFlow
    has started: so before any test. Ordinary tests run on the first.
    """
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def package_alone():
    """Imports the package first of all; returns what a process sees of it."""
    # These set variables of their own, so they are imported before.
    import keras  # noqa: F401
    import tensorflow as tf

    before, environ = set(sys.modules), dict(os.environ)
    import keras_kd

    changed = set(os.environ.items()) ^ set(environ.items())
    return {
        "before": before,
        "loaded": {name.partition(".")[0] for name in {*sys.modules} - before},
        "environ": sorted(changed),
        "tf_keras": getattr(tf.keras, "__version__", "none"),
        "export": hasattr(keras_kd.export, "run_tflite"),
    }


@pytest.fixture(scope="session")
def imported():
    """What this process looked like after `import keras_kd`."""
    # Else nothing that it loads would be seen.
    assert "keras_kd" in IMPORTED["loaded"]
    return IMPORTED


@pytest.fixture(autouse=True)
def fresh_keras():
    """Forgets names, policies and graphs, then seeds every generator."""
    import keras

    # In this order: clearing the session forgets the seed. Python collects
    # garbage when it must; doing so at each test takes up to half a second.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture
def eager():
    """Runs steps eagerly, where a test does not look at how they run.

    A few tiny steps take less time than to trace one. `compile` has an
    argument for it; this is for functions that compile for themselves.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def no_picture(monkeypatch):
    """Writes reports without drawing, where a test looks at no picture."""
    from keras_kd.report import picture

    monkeypatch.setattr(picture, "render", lambda *_: b"\x89PNG")


@pytest.fixture(autouse=True, scope="module")
def small_heap():
    """Keeps what earlier modules left from being looked through for garbage.

    TensorFlow keeps traced graphs, millions of objects after some hundred
    tests, and Python would go through all of them again and again: a sixth
    of the suite's time.
    """
    yield
    gc.collect()
    gc.freeze()


# Of the collections in between only the full ones cost anything (a
# twentieth of the suite), and the one above makes up for them.
gc.set_threshold(700, 10, 1000)
