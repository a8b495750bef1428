# SPDX-License-Identifier: Apache-2.0
"""keras_kd: knowledge distillation for Keras, from teacher to shipped file.

    import keras_kd as kd

Every public name is listed here. Each is imported when it is first used, so
`import keras_kd` is quick and loads neither TensorFlow nor any tool that a
program does not use.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME_OF = {
    "Data": "data",
    "Distiller": "distiller",
    "EarlyExit": "early_exit",
    "HyperDistiller": "tuning.hyper_distiller",
    "MutualDistiller": "mutual",
    "Projector": "projectors",
    "Pruning": "pruning",
    "Report": "report",
    "StageRecord": "records",
    "StepSettings": "step_settings",
    "TeacherCache": "labels.cache",
    "attach_targets": "labels.attached",
    "born_again": "generations",
    "compress": "pipeline",
    "exits_of": "early_exit",
    "export": "export",
    "fastest_step": "step_settings",
    "function_matching": "matching",
    "generate": "sequences",
    "measure": "report",
    "prune": "pruning",
    "prune_channels": "pruning",
    "quantization_aware": "quantization",
    "search": "tuning.search",
    "sequence_level": "sequences",
    "suggest_weights": "loss_scales",
    "tap": "taps",
    "teach_through": "generations",
    "teacher_forced": "sequences",
}
_MODULES = ("callbacks", "labels", "losses", "recipes", "teachers", "testing")

__all__ = [
    "Data",
    "Distiller",
    "EarlyExit",
    "HyperDistiller",
    "MutualDistiller",
    "Projector",
    "Pruning",
    "Report",
    "StageRecord",
    "StepSettings",
    "TeacherCache",
    "attach_targets",
    "born_again",
    "callbacks",
    "compress",
    "exits_of",
    "export",
    "fastest_step",
    "function_matching",
    "generate",
    "labels",
    "losses",
    "measure",
    "prune",
    "prune_channels",
    "quantization_aware",
    "recipes",
    "search",
    "sequence_level",
    "suggest_weights",
    "tap",
    "teach_through",
    "teacher_forced",
    "teachers",
    "testing",
]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        module = importlib.import_module(f"{__name__}.{_HOME_OF[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
