# SPDX-License-Identifier: Apache-2.0
"""One student on several machines at once: TensorFlow's workers in actors."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import socket
from collections.abc import Callable
from concurrent import futures
from typing import Any

from keras_kd.engines import shipping
from keras_kd.engines.base import TaskLostError


@dataclasses.dataclass(frozen=True)
class Training:
    """What each worker needs; see `Ray.fit`.

    Args:
        build: Returns a compiled model.
        data: Arrays, or a function that returns batches.
        batch_size: Of arrays, over all workers.
        seed: Of weights and shuffling.
        backup: Folder for what a rerun goes on from, or `None`.
        options: Arguments of `fit`.
    """

    build: Callable[[], Any]
    data: Any
    batch_size: int
    seed: int
    backup: pathlib.Path | None
    options: dict[str, Any]


def address() -> str:
    """Returns where the worker of this process will be listening."""
    import ray

    with socket.socket() as found:
        found.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{found.getsockname()[1]}"


def train(content: bytes, rank: int, workers: list[str]) -> tuple | None:
    """Trains with the other workers; returns what the first has to tell.

    Args:
        content: A packed `Training`: unpacking it may start TensorFlow,
            which has to know of the other workers before.
        rank: Which worker this is.
        workers: Addresses of all.
    """
    import tensorflow as tf

    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": rank},
        }
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    training = shipping.unpacked(content)
    import keras

    from keras_kd.core.folders import file_content

    keras.utils.set_random_seed(training.seed)
    batches = _batches(training)
    options, callbacks = dict(training.options), []
    if training.backup is not None:
        folder = training.backup / f"worker-{rank}"
        callbacks = [keras.callbacks.BackupAndRestore(os.fspath(folder))]
    with strategy.scope():
        model = training.build()
        model.__class__ = _for_several_workers(type(model))
        # By hand, since Keras would look into what is spread over workers.
        # Zeros, since to read a batch would change the order of all others.
        zeros = tf.nest.map_structure(
            lambda spec: tf.zeros([d or 1 for d in spec.shape], spec.dtype),
            batches.element_spec,
        )
        model._symbolic_build(data_batch=zeros)
    history = model.fit(
        batches,
        callbacks=[*callbacks, *options.pop("callbacks", ())],
        verbose=0,
        **options,
    ).history
    if rank:
        return None
    trained = getattr(model, "student", model)
    return file_content(trained.save, ".keras"), history


def train_together(engine: Any, training: Training) -> tuple[bytes, dict]:
    """Trains one model on all workers of a Ray engine that is new.

    Returns:
        The `.keras` file and the history.

    Raises:
        TaskLostError: If a worker died: the others cannot go on without it.
    """
    content = shipping.packed(training, everywhere=True)
    with futures.ThreadPoolExecutor(engine.slots) as threads:

        def on_all(function, arguments):
            tasks = [
                threads.submit(engine.call_on, rank, function, *given)
                for rank, given in enumerate(arguments)
            ]
            futures.wait(tasks, return_when=futures.FIRST_EXCEPTION)
            done = [t.exception() for t in tasks if t.done()]
            first = next((e for e in done if e is not None), None)
            if first is not None:
                engine.close()  # or the others wait for it
                raise_plainly(first, engine.died, training.backup)
            return [task.result() for task in tasks]

        workers = on_all(address, [() for _ in range(engine.slots)])
        given = [(content, rank, workers) for rank in range(engine.slots)]
        return on_all(train, given)[0]


def raise_plainly(
    error: Exception, died: tuple[type[Exception], ...], backup: Any
) -> None:
    """Raises an error, or says that a worker died where it tells of that.

    Args:
        error: The first that a worker or Ray has raised.
        died: What Ray raises where a process is gone.
        backup: What a rerun goes on from, or `None`.
    """
    text = f"{type(error).__name__}: {error}"
    # What TensorFlow says on the others where one is gone.
    is_told = any(word in text for word in ("Unavailable", "Collective ops"))
    if not is_told and not isinstance(error, died):
        raise error
    then = (
        f"Call it again: it continues from {backup}"
        if backup
        else "Give it a `backup` folder to continue from"
    )
    raise TaskLostError(
        "A process died that trained one student with others, which cannot "
        f"go on without it. {then}."
    ) from error


def _batches(training):
    import tensorflow as tf

    if callable(training.data):
        batches = training.data()
    else:
        batches = tf.data.Dataset.from_tensor_slices(training.data)
        count = int(batches.cardinality())
        batches = batches.shuffle(count, seed=training.seed)
        # The last batch may be too small to be shared.
        batches = batches.batch(training.batch_size, drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return batches.with_options(options)


def _for_several_workers(kind):
    """Returns a subclass whose `fit` works under several workers.

    Keras 3 fails there (keras#20585): it averages batches that are spread
    over workers, to see their shapes, and averages figures along an axis
    that they do not have.
    """
    import tensorflow as tf

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        pass  # built before

    def train_step(self, data):
        logs = super(several, self).train_step(data)
        return {name: tf.reshape(value, (1,)) for name, value in logs.items()}

    several = type(
        kind.__name__,
        (kind,),
        {
            "_maybe_symbolic_build": _maybe_symbolic_build,
            "train_step": train_step,
        },
    )
    return several
