# SPDX-License-Identifier: Apache-2.0
"""SavedModelTeacher: a served model's directory, through its signature."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import tensorflow as tf

from keras_kd.core.saved_models import load_saved_model
from keras_kd.core.type_aliases import Arrays
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.base import check_activation

_HEADS = ("logits", "probabilities")


class SavedModelTeacher(Teacher):
    """A SavedModel as a teacher, whatever wrote it.

    It is asked as a server would ask it: by the names of its signature, with
    the code that made the model not needed. Its weights stay what they are.

    Args:
        path: Directory that holds `saved_model.pb`, such as
            `models/digits/1`.
        output: Name of the signature's output to learn from. Defaults to
            `"logits"`, else `"probabilities"`, else the only one.
        signature: Name of the signature.
        activation: What that output is: `"softmax"`, `"sigmoid"`,
            `"linear"` for logits, or `"auto"` if that is not said.
        outputs: What it is in other words: `"logits"`, `"probabilities"` or
            `"values"`. Defaults to its name, if that is one of the first
            two. Another one is looked at in the first batches, and is an
            error unless they show for certain what it is.
        preprocess: What turns a batch of the student's inputs into the
            teacher's: a tensor, or a dict by the names of the signature.

    Raises:
        ValueError: If there is no SavedModel at `path`, no such signature or
            output, or the inputs do not fit the signature.

    Example:

    ```python
    big_model.export("served/digits/1")
    teacher = kd.teachers.SavedModelTeacher(
        "served/digits/1", activation="linear"
    )
    ```
    """

    supports_jit = False  # nobody knows which operations it holds

    def __init__(
        self,
        path: str | pathlib.Path,
        output: str | None = None,
        signature: str = "serving_default",
        activation: str = "auto",
        preprocess: Callable | None = None,
        outputs: str | None = None,
    ):
        check_activation(activation)
        if not tf.saved_model.contains_saved_model(str(path)):
            raise ValueError(
                "`path` must be a directory that holds saved_model.pb, such "
                f"as models/digits/1. Received: path={str(path)!r}"
            )
        # The loaded object owns the variables that its signatures use.
        self._loaded = load_saved_model(path)
        signatures = dict(self._loaded.signatures)
        if signature not in signatures:
            raise ValueError(
                f"`signature` must be one of {sorted(signatures)}. Received: "
                f"signature={signature!r}"
            )
        self.path = pathlib.Path(path)
        self.preprocess = preprocess
        self._function = signatures[signature]
        self._inputs = self._function.structured_input_signature[1]
        self._outputs = self._function.structured_outputs
        self.output = _choose(output, self._outputs)
        self._shape = tuple(self._outputs[self.output].shape)
        self.activation = activation
        if activation == "auto":
            one_unit = self._shape[-1] == 1
            probabilities = "sigmoid" if one_unit else None
            heads = dict(zip(_HEADS, ("linear", probabilities), strict=True))
            self.activation = heads.get(self.output)
            if self.output == "probabilities" and not one_unit:
                outputs = outputs or "probabilities"
        self.say_outputs(outputs)

    def shape(self, name: str) -> tuple | None:
        return self._shape

    def __call__(self, x: Arrays) -> dict:
        if self.preprocess is not None:
            x = self.preprocess(x)
        if not isinstance(x, dict) and len(self._inputs) == 1:
            x = {next(iter(self._inputs)): x}
        if not isinstance(x, dict) or not set(self._inputs) <= set(x):
            received = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise ValueError(
                f"The signature of {self.path} takes a dict of "
                f"{sorted(self._inputs)}. Received: {received}. Give a "
                "`preprocess` that makes it from the student's inputs."
            )
        # Cast, as a Keras model casts what it is given.
        inputs = {
            name: tf.cast(x[name], spec.dtype)
            if spec.dtype != tf.string
            else x[name]
            for name, spec in self._inputs.items()
        }
        return {"output": self._function(**inputs)[self.output]}


def _choose(output, outputs):
    if output is None:
        preferred = [name for name in _HEADS if name in outputs]
        found = preferred or (list(outputs) if len(outputs) == 1 else [])
        output = found[0] if found else None
    if output not in outputs:
        raise ValueError(
            f"`output` must be one of {sorted(outputs)}, the outputs of the "
            f"signature. Received: output={output!r}"
        )
    return output
