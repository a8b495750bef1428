# SPDX-License-Identifier: Apache-2.0
"""Early exit: a model that answers as soon as it is sure enough."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_kd.core import output_heads
from keras_kd.core.scalars import Scalar
from keras_kd.core.taps import check_graph
from keras_kd.core.taps import tap
from keras_kd.core.type_aliases import Arrays


def exits_of(
    student: keras.Model, names: Sequence[str] | None = None
) -> dict[str, keras.Model]:
    """Returns each exit of a student as a plain model.

    An exit's model has only the layers on the way to it, and shares them
    with the student. Save, measure or export it as any model.

    Args:
        student: A functional model with several exits, such as one taught
            by `kd.teachers.OwnExitTeacher`.
        names: Outputs or layers; by default all outputs of the student.

    Returns:
        `{name: keras.Model}`, in the order of `names`.

    Raises:
        ValueError: If the student has no graph or no such exit.

    Example:

    ```python
    exits = kd.exits_of(student, ["pooled", "output"])
    exits["pooled"].count_params()
    ```
    """
    check_graph(student)
    if names is None:
        names = list(output_heads.named_outputs(student))
    tapped = tap(student, names)
    return {
        name: keras.Model(
            tapped.input,
            tapped.output[name],
            name=f"{student.name}_{name.replace('/', '_')}",
        )
        for name in names
    }


class EarlyExit:
    """Runs a model from exit to exit, until one is sure enough.

    All examples go to the first exit. Those whose highest probability there
    is not above the threshold go on from the tensors already computed, and so
    forth; the last exit answers whatever is left. The deeper layers are
    never run for an example that is already answered.

    Choose the threshold on validation data: a higher one is slower and more
    often right. A probability means less where the training made the exits
    overconfident, so look at the accuracy of each exit's answers. An exit
    inside a nested model saves nothing: that model is run as a whole.

    Args:
        model: A functional model whose exits give class scores, as logits or
            softmax. Its weights are shared, not copied.
        exits: Names of its exits (outputs or layers), from the shallowest to
            the deepest.
        threshold: Probability in `[0, 1]` that an answer must exceed: with
            0 the first exit answers all, with 1 the last. Assignable at any
            time.

    Attributes:
        stages: What is run, one per exit: a `keras.Model` from the inputs,
            then a `keras.Function` each from the tensors that the stage
            before hands on; they give `[exit, *tensors for the next]`.

    Raises:
        ValueError: If there are fewer than two exits, one has no class
            scores, a deeper one needs nothing beyond a shallower one, or a
            mask would have to be handed on.

    Example:

    ```python
    image = keras.Input((8, 8, 1))
    shallow = keras.layers.Conv2D(4, 3, activation="relu")(image)
    early = keras.layers.Flatten()(shallow)
    early = keras.layers.Dense(3, name="early")(early)
    deep = keras.layers.Conv2D(8, 3, activation="relu")(shallow)
    last = keras.layers.Flatten()(deep)
    last = keras.layers.Dense(3, name="last")(last)
    model = keras.Model(image, {"early": early, "last": last})
    quick = kd.EarlyExit(model, ["early", "last"], threshold=0.9)
    logits, answered_by = quick.predict(images)
    np.bincount(answered_by, minlength=2)   # examples per exit
    ```

    Reference: https://arxiv.org/abs/1709.01686
    """

    threshold = Scalar(minimum=0.0, maximum=1.0)

    def __init__(
        self,
        model: keras.Model,
        exits: Sequence[str],
        threshold: float = 0.9,
    ):
        check_graph(model)
        if isinstance(exits, str) or len(set(exits)) < max(len(exits), 2):
            raise ValueError(
                "`exits` must list two or more different exits of "
                f"'{model.name}', from the shallowest to the deepest. "
                f"Received: exits={exits!r}"
            )
        self.exits = list(exits)
        self.threshold = threshold
        tapped = tap(model, self.exits)
        tensors = {name: tapped.output[name] for name in self.exits}
        for name, tensor in tensors.items():
            _check_class_scores(name, tensor)
        self.stages = _split(tapped.input, tensors)
        self._functions = [
            _compiled(
                stage,
                output_heads.activation_of_tensor(tensor),
                is_first=stage is self.stages[0],
            )
            for stage, tensor in zip(self.stages, tensors.values(), strict=True)
        ]

    def predict(
        self, x: Arrays, batch_size: int = 256
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the answers, and which exit gave each of them.

        Args:
            x: What the model takes, as arrays or a dict of them; or a
                batched `tf.data.Dataset`, of which labels are passed over.
            batch_size: Examples per batch, where `x` holds arrays.

        Returns:
            Float32 logits `(examples, classes)` (log-probabilities from a
            softmax), and indices into `exits`, `(examples,)`.
        """
        if not isinstance(x, tf.data.Dataset):
            x = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)
        batches = x.map(lambda x, *_: x).prefetch(tf.data.AUTOTUNE)
        answers = [self._predict_batch(batch) for batch in batches]
        logits, exits = zip(*answers, strict=True)
        return np.concatenate(logits), np.concatenate(exits)

    def _predict_batch(self, inputs):
        answers = exits = None
        for index, function in enumerate(self._functions):
            logits, confidence, handed_on = function(inputs)
            if index == 0:
                answers = np.empty(logits.shape, "float32")
                exits = np.empty(len(answers), "int32")
                left = np.arange(len(answers))
            # A confidence that is no number is not sure.
            unsure = ~(confidence.numpy() > self.threshold)
            answers[left], exits[left] = logits, index
            left = left[unsure]
            if not len(left):
                break
            inputs = [tf.boolean_mask(t, unsure) for t in handed_on]
        return answers, exits


def _compiled(stage, activation, is_first):
    def run(inputs):
        answer, *handed_on = stage(inputs)
        logits = output_heads.to_logits(answer, activation)
        return logits, ops.max(ops.softmax(logits), axis=-1), handed_on

    if is_first:  # takes whatever the model takes
        return tf.function(run, reduce_retracing=True)
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in stage.inputs]
    return tf.function(run, input_signature=[specs])


def _split(inputs, exits):
    """Returns what computes each exit from where the one before ended."""
    names, tensors = list(exits), list(exits.values())
    stages, done = [], set()
    for index, tensor in enumerate(tensors):
        own = _nodes_before([tensor])
        if own <= done:
            raise ValueError(
                f"The exit '{names[index]}' needs nothing beyond those before "
                "it. List the exits from the shallowest to the deepest. "
                f"Received: exits={names}"
            )
        done |= own
        handed_on = {}
        for node in _nodes_before(tensors[index + 1 :]) - done:
            for t in node.input_tensors:
                if _node_of(t) in done or _node_of(t).is_input:
                    handed_on[id(t)] = t
        handed_on = list(handed_on.values())
        _check_no_mask(names[index], handed_on)
        # A functional model that starts inside another's graph clones its
        # nodes, wrongly for a layer that is called on both sides of the cut.
        make = keras.Function if stages else keras.Model
        stages.append(make(inputs, [tensor, *handed_on]))
        inputs = handed_on
    return stages


def _node_of(tensor):
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _nodes_before(tensors):
    """Returns every call in the graph that the tensors need."""
    found, waiting = set(), [_node_of(tensor) for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.parent_nodes
    return found


def _check_class_scores(name, tensor):
    activation = output_heads.activation_of_tensor(tensor)
    is_classes = len(tensor.shape) == 2 and tensor.shape[-1] not in (None, 1)
    if not is_classes or activation not in ("softmax", "linear"):
        raise ValueError(
            f"The exit '{name}' has no class scores to read its confidence "
            "from. Expected "
            "logits or a softmax of shape (batch, classes). Received: shape "
            f"{tuple(tensor.shape)} after activation {activation!r}."
        )


def _check_no_mask(name, tensors):
    if any(getattr(t, "_keras_mask", None) is not None for t in tensors):
        raise ValueError(
            f"The model continues after the exit '{name}' from a tensor with a "
            "mask, which would be lost there. Make the mask an input of the "
            "layers that need it, or run the exits as models of their own: "
            "kd.exits_of(model)."
        )
