# SPDX-License-Identifier: Apache-2.0
"""Quantisation-aware training: a student that learns to live in int8.

No library does it for Keras 3 and LiteRT: tfmot refuses Keras 3 models,
Keras' own `model.quantize` and ai-edge-quantizer work after training, and
QKeras and HGQ train the fixed-point formats of FPGAs. But the pieces exist:
Keras' fake quantisation op, which LiteRT's converter understands.
"""

from keras_kd.quantization.aware import quantization_aware
from keras_kd.quantization.fake import FakeQuantize
from keras_kd.quantization.fake import FakeQuantizedKernel

__all__ = ["FakeQuantize", "FakeQuantizedKernel", "quantization_aware"]
