# SPDX-License-Identifier: Apache-2.0
"""Engines: where the trials of a search run, here or in other processes.

`Serial` runs them in this process, `Loky` in several of this machine. To
write one of your own, subclass `Engine` and call `kd.testing.check_engine`.
"""

from keras_kd.engines.base import Engine
from keras_kd.engines.base import TaskLostError
from keras_kd.engines.loky import Loky
from keras_kd.engines.serial import Serial

__all__ = ["Engine", "Loky", "Serial", "TaskLostError"]
