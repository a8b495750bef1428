# SPDX-License-Identifier: Apache-2.0
"""Endpoint: what one signature takes, and how it is answered.

The SavedModel, the .tflite file and the answers that both are compared with
come from the same endpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.core.litert_runner import plain_name
from keras_kd.export.formats.python_only import check_keeps_no_state
from keras_kd.export.formats.python_only import check_takes_one_batch
from keras_kd.export.formats.python_only import naming_python
from keras_kd.export.signatures.answers import Head
from keras_kd.export.signatures.answers import answer_function
from keras_kd.export.signatures.classes import CLASSES
from keras_kd.export.signatures.classes import SCORES
from keras_kd.export.signatures.classes import add_classes
from keras_kd.export.signatures.classes import blank_ties
from keras_kd.export.signatures.classes import check_classes
from keras_kd.export.signatures.requests import as_request
from keras_kd.export.signatures.requests import random_batch
from keras_kd.export.signatures.signature import input_specs
from keras_kd.export.signatures.signature import own_names


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A named, guarded way into a model.

    Args:
        specs: A named `tf.TensorSpec` for each input, in the nesting that
            `answer` takes.
        answer: Maps inputs to a dict of tensors.
        names: New name of each output that is renamed.
        own_names: What a dict of inputs may go by beside the specs' names,
            see `signature.own_names`.
    """

    specs: Any
    answer: Callable[[Any], dict[str, tf.Tensor]]
    names: dict[str, str]
    own_names: Sequence[Sequence[str]] = ()

    @property
    def flat(self) -> list[tf.TensorSpec]:
        """The specs in a list."""
        return keras.tree.flatten(self.specs)

    def request(self, inputs: Any) -> dict[str, np.ndarray]:
        """Returns a batch as arrays by the specs' names, see `as_request`.

        A random one where the inputs are `None`.
        """
        if inputs is None:
            return random_batch(self.specs)
        return as_request(self.specs, inputs, self.own_names)

    def serve(self, *tensors):
        """Answers tensors in the order of `flat`; refuses wrong shapes."""
        return self._graph(*tensors)

    @functools.cached_property
    def _graph(self):
        """What every file is made of, traced once."""
        graph = tf.function(self._guarded_answers, autograph=False)
        with naming_python():
            return graph.get_concrete_function(*self.flat)

    def _guarded_answers(self, *tensors):
        # A shape check that only asserts is folded away, since the rank is
        # known while tracing; ensure_shape stays in the graph.
        guarded = [
            tf.ensure_shape(tensor, spec.shape)
            for tensor, spec in zip(tensors, self.flat, strict=True)
        ]
        return self._renamed(self._answers(guarded))

    def expected(
        self, sample: dict[str, np.ndarray], tolerance: float = 0.0
    ) -> dict[str, np.ndarray]:
        """Returns what the graph answers, as arrays by name."""
        answers = self.serve(*self._tensors(sample))
        answers = {key: tensor.numpy() for key, tensor in answers.items()}
        return blank_ties(answers, tolerance, self.names)

    def eager(self, sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what the model answers outside of a graph.

        Some operations round otherwise there, as Keras' Resizing of uint8.
        """
        answers = self._renamed(self._answers(self._tensors(sample)))
        return {key: tensor.numpy() for key, tensor in answers.items()}

    def _tensors(self, sample):
        return [tf.convert_to_tensor(sample[s.name]) for s in self.flat]

    def _answers(self, tensors):
        return self.answer(keras.tree.pack_sequence_as(self.specs, tensors))

    def _renamed(self, answers):
        unknown = set(self.names) - set(answers)
        if unknown:
            raise ValueError(
                f"`names` renames {sorted(unknown)}, which is no input and "
                f"no output. The outputs are: {sorted(answers)}"
            )
        renamed = {self.names.get(k, k): v for k, v in answers.items()}
        if len(renamed) < len(answers):
            raise ValueError(
                "`names` gives two outputs one name. Received: "
                f"{self.names} for {sorted(answers)}"
            )
        return renamed


def make_endpoint(
    model: keras.Model,
    *,
    head: Head = None,
    inputs: Any = None,
    batch_size: int | None = None,
    preprocess: keras.Layer | None = None,
    names: dict[str, str] | None = None,
    labels: Sequence[str] | None = None,
    top_k: int | None = None,
) -> Endpoint:
    """Returns the endpoint of a model; see `write_saved_model`.

    Raises:
        ValueError: If an option is wrong, or the inputs are not known.
    """
    names = dict(names or {})
    if not all(_is_word(name) for name in names.values()):
        raise ValueError(
            "`names` must map names to words of letters, digits and '_', "
            f"such as {{'input': 'image'}}. Received: {names}"
        )
    labels, top_k = check_classes(labels, top_k)
    if preprocess is not None and inputs is None:
        if not getattr(preprocess, "inputs", None):
            raise ValueError(
                "`preprocess` does not say what its inputs are. Pass `inputs`, "
                "a batch of them, or start it with their shape and dtype: "
                "keras.Sequential([keras.Input(shape, dtype='uint8', "
                f"name='image'), layer]). Received: {preprocess}"
            )
    taker = preprocess or model
    for part in filter(None, (preprocess, model)):
        check_keeps_no_state(part)
        check_takes_one_batch(part)
    specs = input_specs(taker, inputs, batch_size)
    known, made = own_names(taker, inputs)
    written = dict(zip(known, made, strict=True))
    names = {written.get(k, plain_name(k)): v for k, v in names.items()}
    outputs = set(names) - {spec.name for spec in keras.tree.flatten(specs)}
    specs = keras.tree.map_structure(
        lambda spec: tf.TensorSpec(
            spec.shape, spec.dtype, names.get(spec.name, spec.name)
        ),
        specs,
    )
    inner = answer_function(model, head)

    def answer(given):
        if preprocess is not None:
            given = preprocess(given, training=False)
        return add_classes(inner(given), labels, top_k)

    renamed = {key: names[key] for key in outputs}
    endpoint = Endpoint(specs, answer, renamed, [known, made])
    taken = [spec.name for spec in endpoint.flat]
    if len(set(taken)) < len(taken):
        raise ValueError(
            f"`names` gives two inputs one name. Received: {names} for a "
            f"model whose inputs become {taken}"
        )
    return endpoint


def extra_endpoints(
    main: Endpoint, signatures: dict[str, keras.Model] | None, **options
) -> dict[str, Endpoint]:
    """Returns the endpoints of the named extra signatures.

    ValueError if a name is bad, or a model does not take what `main` does.
    """
    endpoints = {}
    for name, model in (signatures or {}).items():
        if not _is_word(name) or name in ("serve", "serving_default"):
            raise ValueError(
                "`signatures` must be named by a word of letters, digits and "
                "'_', other than 'serve' and 'serving_default'. Received: "
                f"{name!r}"
            )
        endpoint = make_endpoint(model, head="regression", **options)
        wanted, received = _described(main), _described(endpoint)
        if wanted != received:
            raise ValueError(
                f"Signature '{name}' must take what the model takes, "
                f"{wanted}. Received a model of {received}. Make it of the "
                "same input: keras.Model(model.input, a_layer.output)."
            )
        endpoints[name] = dataclasses.replace(endpoint, names={})
    return endpoints


def names_without_classes(names: dict[str, str] | None) -> dict[str, str]:
    """Returns the renamings of an endpoint that answers no classes."""
    names = names or {}
    return {k: v for k, v in names.items() if k not in (CLASSES, SCORES)}


def _described(endpoint):
    return [(s.name, s.dtype.name, tuple(s.shape)) for s in endpoint.flat]


def _is_word(name):
    return isinstance(name, str) and re.fullmatch(
        "[A-Za-z_][A-Za-z0-9_]*", name
    )
