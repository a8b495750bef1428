# SPDX-License-Identifier: Apache-2.0
"""Export: SavedModels for TensorFlow Serving, .tflite files for LiteRT.

`keras_kd.export(...)` publishes a model; the package's other functions are
the steps it is made of.
"""

from __future__ import annotations

import sys
import types

from keras_kd.core.file_formats import export_formats
from keras_kd.export.export import export
from keras_kd.export.formats.litert import run_tflite
from keras_kd.export.formats.litert import write_tflite
from keras_kd.export.formats.saved_model import write_saved_model
from keras_kd.export.manifest import VerificationError
from keras_kd.export.manifest import check_manifest
from keras_kd.export.publishing.staging import staging
from keras_kd.export.publishing.versions import publish
from keras_kd.export.publishing.versions import retire_versions
from keras_kd.export.serving.serving_files import docker_command
from keras_kd.export.serving.serving_files import server_command
from keras_kd.export.serving.warmup import read_warmup
from keras_kd.export.serving.warmup import write_warmup
from keras_kd.export.signatures.classes import read_labels
from keras_kd.export.verification.directory import verify_directory
from keras_kd.export.verification.verify import verify

__all__ = [
    "VerificationError",
    "check_manifest",
    "docker_command",
    "export",
    "export_formats",
    "publish",
    "read_labels",
    "read_warmup",
    "retire_versions",
    "run_tflite",
    "server_command",
    "staging",
    "verify",
    "verify_directory",
    "write_saved_model",
    "write_tflite",
    "write_warmup",
]


class _CallablePackage(types.ModuleType):
    """Lets `keras_kd.export` be both this package and its function.

    Python binds the package to that name as soon as anything in it is
    imported, which would hide a function of the same name.
    """

    def __call__(self, *args, **kwargs):
        return export(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
