# SPDX-License-Identifier: Apache-2.0
"""FrozenTeacher: a trained Keras model that only ever predicts."""

from __future__ import annotations

from collections.abc import Callable

import keras

from keras_kd.core.output_kinds import OutputKind
from keras_kd.core.type_aliases import Arrays
from keras_kd.teachers.base import ModelTeacher
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.base import check_activation


class FrozenTeacher(ModelTeacher):
    """A trained Keras model as a teacher.

    It runs in inference mode: dropout is off, batch-normalisation statistics
    do not move, and neither its weights nor its `trainable` flag is touched.
    `Distiller(teacher=model)` wraps the model in this class by itself; write
    it out to give a `preprocess` or to name the activation.

    Args:
        model: A trained `keras.Model`.
        preprocess: What turns a batch of the student's inputs into the
            teacher's: another scaling, resolution, or choice from a dict. It
            is part of the compiled step, so it must use `keras.ops` or
            TensorFlow operations.
        activation: What the model's output went through last: `"softmax"`,
            `"sigmoid"`, `"linear"` for logits, or `"auto"` to read it off the
            last layer (a subclassed model has none to read). Naming
            `"softmax"` also lets sigmoid units teach classes: their
            probabilities are then scaled to the sum 1.
        outputs: What its outputs are: `"logits"`, `"probabilities"` or
            `"values"`, or a dict of these by tap; where `activation` cannot
            tell. What is neither read nor said is looked at in the first
            batches, and is an error unless they show it for certain.

    Raises:
        ValueError: If `model` is not a Keras model, or `activation` or
            `outputs` is not one of the above.

    Example:

    ```python
    teacher = kd.teachers.FrozenTeacher(
        big_model, preprocess=lambda x: keras.ops.image.resize(x, (224, 224))
    )
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        preprocess: Callable | None = None,
        activation: str = "auto",
        outputs: str | dict | None = None,
    ):
        if not isinstance(model, keras.Model):
            raise ValueError(
                "A teacher must be a trained keras.Model or a "
                "keras_kd.teachers.Teacher (Keras 3; a tf_keras model has to "
                "be converted first). "
                f"Received: {type(model).__module__}.{type(model).__name__}"
            )
        check_activation(activation)
        self.model = model
        self.preprocess = preprocess
        self.activation = activation
        self.say_outputs(outputs)

    @property
    def models(self) -> tuple:
        return (self.model,)

    def activation_of(self, name: str) -> str | None:
        if name == "output" and self.activation != "auto":
            return self.activation
        return super().activation_of(name)

    def kind_of(self, name: str) -> OutputKind:
        if name == "output" and self.activation != "auto":
            return Teacher.kind_of(self, name)
        return super().kind_of(name)

    def __call__(self, x: Arrays) -> dict:
        found = super().__call__(x)
        read = super().activation_of("output")
        if read is not None and self.activation not in ("auto", read):
            # Without what Keras keeps of another activation.
            found["output"] = keras.ops.stop_gradient(found["output"])
        return found
