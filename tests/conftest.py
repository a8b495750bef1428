# SPDX-License-Identifier: Apache-2.0
"""What every test starts from: two CPU devices, one seed, no leftovers."""

from __future__ import annotations

import gc

import keras
import pytest
import tensorflow as tf

# MirroredStrategy needs two devices, and devices are fixed once TensorFlow
# has started: so here, before any test. Ordinary tests run on the first.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


@pytest.fixture(autouse=True)
def fresh_keras():
    """Forgets names, policies and graphs, then seeds every generator."""
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
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


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
