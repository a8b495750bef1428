# SPDX-License-Identifier: Apache-2.0
"""int4 weights, by ai-edge-quantizer: an extra."""

from __future__ import annotations

import contextlib
import io
import pathlib

from keras_kd.core.extras import import_extra
from keras_kd.core.folders import work_folder


def with_int4_weights(content: bytes) -> bytes:
    """Returns a .tflite file of float32 with its weights in four bits.

    Weights of dense and convolutional layers have one scale for each output
    channel, in sixteen steps; embeddings stay as they are, and so does the
    arithmetic: LiteRT rounds activations to int8 as it goes, by the range of
    each batch.

    Raises:
        ImportError: If ai-edge-quantizer is not installed.
    """
    needed = "ai_edge_quantizer", "int4", 'quantize="int4"'
    package = import_extra(*needed)
    recipe = import_extra("ai_edge_quantizer.recipe", *needed[1:])
    silence = io.StringIO()
    with (
        work_folder() as folder,
        # It prints sizes and bars, and has no option against it.
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        path = pathlib.Path(folder) / "float32.tflite"
        path.write_bytes(content)
        quantizer = package.quantizer.Quantizer(str(path))
        quantizer.load_quantization_recipe(recipe.dynamic_wi4_afp32())
        return bytes(quantizer.quantize().quantized_model)
