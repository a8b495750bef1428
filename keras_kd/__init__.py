# SPDX-License-Identifier: Apache-2.0
"""keras_kd: knowledge distillation for Keras, from teacher to shipped file.

    import keras_kd as kd

Every public name is listed here. Each is imported when it is first used, so
`import keras_kd` is quick and loads neither TensorFlow nor any tool that a
program does not use.
"""

from __future__ import annotations

import functools
import importlib

__version__ = "0.1.0"

_HOME_OF = {
    "Data": "data.splits",
    "Distiller": "distillers.distiller",
    "EarlyExit": "models.early_exit",
    "HyperDistiller": "tuning.space.hyper_distiller",
    "MutualDistiller": "distillers.mutual",
    "Projector": "losses.projector",
    "Pruning": "pruning",
    "Report": "report",
    "StageRecord": "core.records",
    "StepSettings": "training.step_tuning",
    "TeacherCache": "targets.cache",
    "attach_targets": "targets.attached",
    "born_again": "workflows.generations",
    "compress": "workflows.compress",
    "exits_of": "models.early_exit",
    "fastest_step": "training.step_tuning",
    "function_matching": "data.function_matching",
    "generate": "data.generation",
    "initialize_from": "models.initializing",
    "measure": "evaluation",
    "prune": "pruning",
    "prune_channels": "pruning",
    "quantization_aware": "quantization",
    "search": "tuning.search",
    "sequence_level": "data.sequences",
    "suggest_weights": "distillers.loss_weights",
    "tap": "core.taps",
    "teach_through": "workflows.generations",
    "teacher_forced": "data.sequences",
}
_MODULES = (
    "callbacks",
    "engines",
    "export",  # a package that can be called
    "labels",
    "losses",
    "recipes",
    "targets",
    "tasks",
    "teachers",
    "testing",
)

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
    "engines",
    "exits_of",
    "export",
    "fastest_step",
    "function_matching",
    "generate",
    "initialize_from",
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
    "targets",
    "tasks",
    "teach_through",
    "teacher_forced",
    "teachers",
    "testing",
]


@functools.cache
def _check_versions():
    from keras_kd.core.versions import require

    require("keras", "tensorflow")


def __getattr__(name: str):
    if name in _MODULES or name in _HOME_OF:
        _check_versions()
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME_OF:
        module = importlib.import_module(f"{__name__}.{_HOME_OF[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
