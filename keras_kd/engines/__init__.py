# SPDX-License-Identifier: Apache-2.0
"""Engines: where trials, seeds and parts run, here or in other processes.

`Serial` runs them in this process, `Loky` in several of this machine, `Ray`
on the machines of a cluster. To write one of your own, subclass `Engine` and
call `kd.testing.check_engine`.
"""

from keras_kd.engines.base import Engine
from keras_kd.engines.base import TaskLostError
from keras_kd.engines.loky import Loky
from keras_kd.engines.named import get
from keras_kd.engines.ray import Ray
from keras_kd.engines.serial import Serial

__all__ = ["Engine", "Loky", "Ray", "Serial", "TaskLostError", "get"]
