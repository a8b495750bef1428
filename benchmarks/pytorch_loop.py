# SPDX-License-Identifier: Apache-2.0
"""An epoch of distillation beside the PyTorch loop one would write instead.

    pip install torch --index-url https://download.pytorch.org/whl/cpu
    .venv/bin/python benchmarks/pytorch_loop.py   # 15 minutes on two cores
    .venv/bin/python benchmarks/pytorch_loop.py mlp     # one pair of four
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/pytorch_loop.py   # a look

One process trains the same student, weight for weight, in turn by `fit` and
by a plain loop: shuffled index batches of tensors in memory, Adam, T^2 KL and
cross-entropy, the running loss and accuracy. Inputs are random: values do not
matter for time. Once with the teacher's logits stored,

    stored    Distiller(None, student).fit on attach_targets(x, logits)
    cache     the same on TeacherCache.attach(...)
    live      Distiller(teacher, student).fit; the loop asks its own teacher
              under inference_mode

and, as what no Keras library can undercut, `student.fit` on the labels alone,
with as many steps in a call as a distiller runs.

The loop is compiled by nothing, as most are, and so is the step of Keras. Both
have oneDNN's kernels, which PyTorch takes on any processor and TensorFlow,
unless told, on some: `TF_ENABLE_ONEDNN_OPTS=0` leaves TensorFlow its own. On
a machine that does other things too the loop's threads wait for each other:
its times are right on a quiet one only. `taskset -c 0` gives each one thread.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # before TensorFlow

import keras
import numpy as np
from _pairs import CLASSES
from _pairs import depthwise_student
from _pairs import mlp
from _pairs import random_images
from _pairs import random_words
from _pairs import transformer
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import ratio
from _timing import seconds_of
from _timing import spread
from _timing import verdict

import keras_kd as kd
from keras_kd.recipes import fashion_mnist

INSTALL = "pip install torch --index-url https://download.pytorch.org/whl/cpu"

try:
    import _torch_models as twins
    import torch
    from _torch_loop import ALPHA
    from _torch_loop import BATCH
    from _torch_loop import RATE
    from _torch_loop import TEMPERATURE
    from _torch_loop import Loop
    from _torch_loop import torch_loss
except ModuleNotFoundError:
    sys.exit(print("Left out: PyTorch is not installed. " + INSTALL))

SCRIPT = "pytorch_loop"
ROWS, ROUNDS = (1280, 1) if FAST else (20_000, 3)
LOOP, STORED, CACHE = "loop, stored", "stored", "cache"
LIVE_LOOP, LIVE = "loop, live", "live"
PLAIN, TOGETHER = "plain fit", 16
XLA = "stored, by XLA"
GOALS = {
    STORED: (LOOP, 1.1),
    XLA: (LOOP, 1.1),
    CACHE: (LOOP, 1.1),
    LIVE: (LIVE_LOOP, 1.0),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Teacher and student, each in Keras and in PyTorch.

    Args:
        title: What the table calls them.
        teacher: Returns the two teachers.
        student: Returns the two students.
        inputs: Returns that many random inputs.
        epochs: In a round: more where one is over before a clock can tell.
        xla: Whether a step compiled by XLA is timed, too. It has no fast
            convolutions on a CPU.
    """

    title: str
    teacher: Callable[[], tuple]
    student: Callable[[], tuple]
    inputs: Callable[[int], np.ndarray] = random_images
    epochs: int = 2
    xla: bool = False


def cnn_teachers() -> tuple:
    return fashion_mnist.build_teacher(), twins.cnn_teacher()


PAIRS = {
    "cnn": Pair(
        "CNN to plain CNN",
        cnn_teachers,
        lambda: (fashion_mnist.build_student(), twins.cnn_student()),
    ),
    "depthwise": Pair(
        "CNN to depthwise CNN",
        cnn_teachers,
        lambda: (depthwise_student(), twins.depthwise_student()),
    ),
    "mlp": Pair(
        "MLP to MLP",
        lambda: (mlp(512, 512), twins.mlp(512, 512)),
        lambda: (mlp(64, 32), twins.mlp(64, 32)),
        epochs=10,
    ),
    "transformer": Pair(
        "transformer to transformer",
        lambda: (transformer(128, 4, 2), twins.Transformer(128, 4, 2)),
        lambda: (transformer(32, 2, 2), twins.Transformer(32, 2, 2)),
        random_words,
        xla=True,
    ),
}


def numpy_loss(teacher, student, y):
    """Returns the loss of both, in float64."""

    def log_softmax(z):
        z = np.asarray(z, "float64")
        z = z - z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    soft, found = (log_softmax(z / TEMPERATURE) for z in (teacher, student))
    divergence = np.mean(np.sum(np.exp(soft) * (soft - found), axis=1))
    on_labels = -np.mean(log_softmax(student)[np.arange(len(y)), y])
    return ALPHA * TEMPERATURE**2 * divergence + (1 - ALPHA) * on_labels


def compiled(model: keras.Model, rate: float = RATE, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adam = keras.optimizers.Adam(rate, epsilon=1e-8)
    model.compile(adam, loss, metrics=["accuracy"], **options)
    return model


def distiller(teacher, student: keras.Model, rate: float = RATE, **options):
    made = kd.Distiller(teacher, student, TEMPERATURE, ALPHA)
    return compiled(made, rate, **options)


def check_alike(pair: Pair, x, y) -> None:
    """Raises unless both sides do the same work and minimise the same."""
    for ours, theirs in (pair.teacher(), pair.student()):
        count = sum(w.numel() for w in theirs.parameters())
        if count != sum(int(np.prod(w.shape)) for w in ours.trainable_weights):
            raise ValueError(f"{pair.title}: {count} weights in PyTorch only")
    teacher, student = pair.teacher()[0], pair.student()[0]
    targets = np.array(teacher(x, training=False))
    answers = np.array(student(x, training=True))
    expected = numpy_loss(targets, answers, y)
    data = kd.attach_targets(x, targets, "logits")
    logs = distiller(None, student, 0.0).train_on_batch(
        data, y, return_dict=True
    )
    given = torch.tensor(targets), torch.tensor(answers), torch.tensor(y).long()
    for found in (float(logs["loss"]), float(torch_loss(*given))):
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def measure(pair: Pair) -> dict:
    """Returns the seconds of an epoch each way, and their ratios."""
    keras.utils.set_random_seed(0)
    epochs = 1 if FAST else pair.epochs
    x = pair.inputs(ROWS)
    y = np.random.default_rng(1).integers(0, CLASSES, ROWS).astype("int32")
    check_alike(pair, x[:BATCH], y[:BATCH])
    teacher, twin = pair.teacher()
    twin.eval()
    logits = teacher.predict(x, batch_size=BATCH, verbose=0)
    x_torch = torch.tensor(x if x.ndim < 4 else x.transpose(0, 3, 1, 2))
    data = x_torch, torch.tensor(y).long()

    def loop(teacher, *data):
        made = Loop(student(1), teacher, *data)
        return lambda: [made.epoch() for _ in range(epochs)]

    def epochs_of(model, *data):
        how = {"batch_size": BATCH} if len(data) > 1 else {"shuffle": False}
        how |= {"epochs": epochs, "verbose": 0}
        return lambda: model.fit(*data, **how)

    def student(number):
        return pair.student()[number]

    with tempfile.TemporaryDirectory() as folder:
        cache = kd.TeacherCache(os.path.join(folder, "labels"))
        cache.build(teacher, (x, y), verbose=False)
        cached = cache.attach((x, y), batch_size=BATCH, shuffle=True, seed=0)
        attached = kd.attach_targets(x, logits, "logits")
        ways = {
            LOOP: loop(None, *data, torch.tensor(logits)),
            STORED: epochs_of(distiller(None, student(0)), attached, y),
            CACHE: epochs_of(distiller(None, student(0)), cached),
            LIVE_LOOP: loop(twin, *data),
            LIVE: epochs_of(distiller(teacher, student(0)), x, y),
            PLAIN: epochs_of(
                compiled(student(0), steps_per_execution=TOGETHER), x, y
            ),
        }
        if pair.xla:
            by_xla = distiller(None, student(0), jit_compile=True)
            ways[XLA] = epochs_of(by_xla, attached, y)
        timed = {name: seconds_of(epoch) for name, epoch in ways.items()}
        found = in_turn(timed, ROUNDS, warm_up=1)
    seconds = {k: [one / epochs for one in v] for k, v in found.items()}
    ratios = {
        way: ratio(seconds[way], seconds[base])
        for way, (base, _) in GOALS.items()
        if way in seconds
    }
    return {"title": pair.title, "seconds": seconds, "ratios": ratios}


def to_markdown(results: dict) -> str:
    lines = []
    for row in results["pairs"].values():
        medians = {k: float(np.median(v)) for k, v in row["seconds"].items()}
        for way, found in row["ratios"].items():
            loop, goal = GOALS[way]
            lines.append(
                f"| {row['title']} | {way} | {medians[way]:.2f} | "
                f"{medians[loop]:.2f} | {spread(found)} | "
                f"{goal}: {verdict(found['median'] <= goal)} | "
                f"{medians[PLAIN]:.2f} |"
            )
    return "\n".join(
        [
            "# An epoch beside the loop that one would write in PyTorch",
            "",
            f"{ROWS:,} random inputs in batches of {BATCH}; equal networks, "
            "weight for weight. Ratio within a round: median (lowest to "
            "highest). Last, the student's own `fit`, on labels alone: what "
            "Keras itself takes.",
            "",
            "| pair | targets | `fit`, s | PyTorch loop, s | ratio | goal | "
            "Keras alone, s |",
            "|---|---|---|---|---|---|---|",
            *lines,
            "",
            f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads; "
            f"TF_ENABLE_ONEDNN_OPTS={results['onednn']}. " + footnote(results),
            "",
        ]
    )


def main(names: list[str]) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as TensorFlow does
    results = {
        **circumstances(SCRIPT),
        "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        "pairs": {},
    }
    for name in names or PAIRS:
        print(PAIRS[name].title, flush=True)
        results["pairs"][name] = measure(PAIRS[name])
    keep(SCRIPT, results, to_markdown(results), whole=not names)


if __name__ == "__main__":
    main(sys.argv[1:])
