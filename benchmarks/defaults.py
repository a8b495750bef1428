# SPDX-License-Identifier: Apache-2.0
"""Which temperature, alpha and method win most often, on ten data sets?

    make bench-defaults                                       # about an hour
    .venv/bin/python benchmarks/defaults.py digits vowel      # some, anew
    .venv/bin/python benchmarks/defaults.py --render          # the table only
    .venv/bin/python benchmarks/defaults.py --long   # five times the steps
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/defaults.py   # a look

Each data set is tried with all labels and with ten of each class (the
teacher has seen all; the student has its answers for all training examples).
The control trains on the labels alone, in as many steps. Students of one seed
start from the same weights; none stops early. Settings are judged by the
validation split; the test split is beside it and chose nothing.

`--long` asks whether a training of five times the steps wants another T, on the
five smallest data sets.
"""

from __future__ import annotations

import functools
import json
import pathlib
import statistics
import sys
import time

import keras
import numpy as np
from _default_tasks import PROBLEMS
from _timing import FAST
from _timing import RESULTS
from _timing import circumstances
from _timing import footnote
from _timing import keep
from scipy.optimize import brentq
from scipy.special import log_softmax

import keras_kd as kd
from keras_kd.core.records import write_atomically

SCRIPT = "defaults"
RUNS = RESULTS / SCRIPT / "runs.json"
LONG_RUNS = RESULTS / SCRIPT / "long_runs.json"
SEEDS = 1 if FAST else 2
STEPS, BATCH = (20, 64) if FAST else (800, 64)
LEARNING_RATE = 5e-3
PER_CLASS = 10
TEMPERATURES, ALPHAS = (1.0, 2.0, 4.0, 8.0), (0.5, 0.7, 0.9)
SHARES = (0.1, 0.25, 0.5)
"""Of the largest entropy, what the softened answers have in the mean."""

METHODS = {
    "soft": lambda: kd.losses.SoftTargets(),
    "standardised": lambda: kd.losses.StandardizedTargets(),
    "decoupled 1 and 8": lambda: kd.losses.Decoupled(1.0, 8.0),
    "decoupled 1 and 2": lambda: kd.losses.Decoupled(1.0, 2.0),
}
# Name of a setting: `(method, temperature or share of entropy, alpha)`.
SETTINGS: dict[str, tuple] = {
    f"T = {t:.0f}, alpha = {a}": ("soft", t, a)
    for t in TEMPERATURES
    for a in ALPHAS
}
SETTINGS |= {
    f"T of {share:.0%} entropy, alpha = {a}": ("soft", share, a)
    for share in SHARES
    for a in (0.7, 0.9)
}
SETTINGS |= {
    f"T = {t:.0f}, alpha 0 to 0.9 in a quarter": ("soft", t, "warm-up")
    for t in (2.0, 4.0)
}
SETTINGS |= {
    "standardised, T = 2, weight 9": ("standardised", 2.0, 0.99),
    "standardised, T = 2, alpha = 0.9": ("standardised", 2.0, 0.9),
    "decoupled 1 and 8, T = 4, alpha = 0.5": ("decoupled 1 and 8", 4.0, 0.5),
    "decoupled 1 and 2, T = 2, alpha = 0.9": ("decoupled 1 and 2", 2.0, 0.9),
}
LONGER = 5
LONG_SETTINGS = {
    name: setting
    for name, setting in SETTINGS.items()
    if setting in [("soft", t, 0.7) for t in TEMPERATURES]
}
SMALLEST = ("vowel", "vehicle", "digits", "dna", "satellite")


def main(names: list[str]) -> None:
    if names == ["--long"]:
        run_all(LONG_RUNS, SMALLEST, STEPS * LONGER, LONG_SETTINGS)
    elif names != ["--render"]:
        run_all(RUNS, names or PROBLEMS, STEPS, SETTINGS, anew=bool(names))
    results = {
        **circumstances(SCRIPT),
        "runs": kept_runs(RUNS),
        "long_runs": kept_runs(LONG_RUNS),
    }
    told = text(results)
    del results["runs"], results["long_runs"]  # in files of their own
    keep(SCRIPT, results, told, whole=not FAST)


def kept_runs(path: pathlib.Path) -> dict:
    return json.loads(path.read_text()) if path.exists() and not FAST else {}


def run_all(path, names, steps, settings, anew=False) -> None:
    """Measures what is not kept yet; one that was stopped goes on there."""
    runs = kept_runs(path)
    for name in names:
        if anew or name not in runs:
            runs[name] = measure(name, steps, settings)
            if not FAST:
                write_atomically(path, json.dumps(runs, indent=1) + "\n")


def measure(name: str, steps: int, settings: dict) -> dict:
    """Returns accuracies by labels, setting, split and seed."""
    problem, began = PROBLEMS[name], time.perf_counter()
    data = problem.load()
    # Several times, where they are few: an epoch has a price of its own.
    often = max(1, 4000 // len(data.train[1]))
    x, y = (np.concatenate([part] * often) for part in data.train)
    shape, classes = x.shape[1:], int(y.max()) + 1
    keras.utils.set_random_seed(0)
    teacher = problem.teacher(shape, classes)
    epochs = 1 if FAST else max(1, problem.teacher_epochs // often)
    fit(teacher, x, y, epochs, rate=1e-3)
    logits = teacher.predict(x, batch_size=500, verbose=0)
    splits = {"validation": data.validation, "test": data.test}
    found = {
        "classes": classes,
        "examples": len(data.train[1]),
        "teacher": {k: accuracy(teacher, *v) for k, v in splits.items()},
        "temperatures": {str(s): temperature_by(s, logits) for s in SHARES},
    }
    labels = {"few": np.tile(few(data.train[1]), often), "all": y}
    build = functools.partial(problem.student, shape, classes)
    found |= measure_students(build, x, labels, logits, splits, steps, settings)
    found["seconds"] = time.perf_counter() - began
    print(f"{name}: {found['seconds']:.0f} s", flush=True)
    return found


def few(y: np.ndarray) -> np.ndarray:
    """Returns the labels but for all after the first ten of each class."""
    kept = np.full_like(y, -1)
    for label in np.unique(y):
        at = np.flatnonzero(y == label)[:PER_CLASS]
        kept[at] = label
    return kept


def measure_students(build, x, labels, logits, splits, steps, settings) -> dict:
    """Returns the accuracies of the students of all settings and seeds."""
    starts = []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        student = build()
        starts.append(student.get_weights())
    # Each is compiled once: weights, T, alpha and optimizer are set anew.
    models = {
        name: kd.Distiller(None, student, distillation_losses=make())
        for name, make in METHODS.items()
    }
    inputs = kd.targets.attach_targets(x, logits, "logits")
    epochs = max(1, round(steps / -(-len(x) // BATCH)))
    found: dict = {}
    for known, y in labels.items():
        rows = found[known] = {}

        def keep_figures(name, rows=rows):
            row = rows.setdefault(name, {k: [] for k in splits})
            for split, (x_, y_) in splits.items():
                row[split].append(accuracy(student, x_, y_))

        at = np.resize(np.flatnonzero(y >= 0), len(y))
        for seed, start in enumerate(starts):
            student.set_weights(start)
            fit(student, x[at], y[at], epochs, LEARNING_RATE, seed=seed)
            keep_figures("control")
            for name, (method, temperature, alpha) in settings.items():
                student.set_weights(start)
                model, callbacks = models[method], []
                if temperature < 1:
                    temperature = temperature_by(temperature, logits)
                model.temperature = temperature
                if alpha == "warm-up":
                    value = kd.callbacks.linear(0.0, 0.9, max(1, epochs // 4))
                    callbacks = [kd.callbacks.Schedule("alpha", value)]
                else:
                    model.alpha = alpha
                fit(model, inputs, y, epochs, LEARNING_RATE, callbacks, seed)
                keep_figures(name)
    return found


def fit(model, x, y, epochs, rate, callbacks=(), seed=0) -> None:
    """Trains with a cosine decay; a model that has been compiled, anew."""
    keras.utils.set_random_seed(seed)
    if not model.compiled:
        steps = epochs * -(-len(y) // BATCH)
        decay = keras.optimizers.schedules.CosineDecay(rate, steps)
        model.compile(
            keras.optimizers.Adam(decay),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=4,
        )
    else:  # the step stays compiled
        for variable in model.optimizer.variables:
            if variable is not model.optimizer._learning_rate:
                variable.assign(keras.ops.zeros_like(variable))
    model.fit(
        x, y, batch_size=BATCH, epochs=epochs, callbacks=[*callbacks], verbose=0
    )


def accuracy(model, x, y) -> float:
    answers = model(x) if len(x) < 3000 else model.predict(x, 500, verbose=0)
    return float((np.asarray(answers).argmax(-1) == y).mean())


def temperature_by(share: float, logits: np.ndarray) -> float:
    """Returns the T at which the mean entropy is a share of the largest."""
    some = logits[:2000].astype("float64")

    def missing(log_temperature):
        log_p = log_softmax(some / np.exp(log_temperature), axis=-1)
        entropy = -(np.exp(log_p) * log_p).sum(-1).mean()
        return entropy - share * np.log(some.shape[-1])

    low, high = np.log(0.25), np.log(100.0)
    if missing(low) > 0:
        return 0.25
    return float(np.exp(brentq(missing, low, high)))


def gains(runs: dict, setting: str, labels: str, split: str) -> list[float]:
    """Returns the mean gain over the control in points, of each data set."""
    return [
        100
        * (
            statistics.mean(run[labels][setting][split])
            - statistics.mean(run[labels]["control"][split])
        )
        for run in runs.values()
    ]


def table(runs: dict, settings: dict) -> list[str]:
    """Returns a row for each setting."""
    first = "| setting | " + " | ".join(
        f"{labels} labels: {what}"
        for labels in ("few", "all")
        for what in ("better in", "validation", "test", "worst")
    )
    lines = [first + " |", "|---" * 9 + "|"]
    for setting in settings:
        cells = []
        for labels in ("few", "all"):
            found = gains(runs, setting, labels, "validation")
            test = gains(runs, setting, labels, "test")
            cells += [
                f"{sum(g > 0 for g in found)} of {len(found)}",
                f"{statistics.mean(found):+z.2f}",
                f"{statistics.mean(test):+z.2f}",
                f"{min(found):+z.2f}",
            ]
        lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return lines


def text(results: dict) -> str:
    """Returns the tables."""
    runs, long_runs = results["runs"], results["long_runs"]
    lines = table(runs, SETTINGS)
    lines += ["", "| data set | classes | training examples | teacher |"]
    lines[-1] += " control, few | control, all |" + "".join(
        f" T of {share:.0%} |" for share in SHARES
    )
    lines.append("|---" * (6 + len(SHARES)) + "|")
    for name, run in runs.items():
        controls = [
            f"{100 * statistics.mean(run[k]['control']['test']):.2f}"
            for k in ("few", "all")
        ]
        lines.append(
            f"| {PROBLEMS[name].title} | {run['classes']} "
            f"| {run['examples']:,} | {100 * run['teacher']['test']:.2f} "
            f"| {' | '.join(controls)} | "
            + " | ".join(f"{t:.1f}" for t in run["temperatures"].values())
            + " |"
        )
    if long_runs:
        titles = ", ".join(PROBLEMS[name].title for name in long_runs)
        lines += [
            "",
            f"With {STEPS * LONGER:,} steps, on {titles}:",
            "",
            *table(long_runs, LONG_SETTINGS),
        ]
    missing = [p.title for name, p in PROBLEMS.items() if name not in runs]
    so_far = f" Not run yet: {', '.join(missing)}." if missing else ""
    return "\n".join(
        [
            "# Which settings win",
            "",
            "Points of accuracy over the control: in how many data sets better "
            "on the validation split, the mean gain there and on the test "
            f"split, and the worst. {SEEDS} seeds each; {STEPS:,} steps of "
            f"{BATCH}. Few labels are {PER_CLASS} of each class.{so_far}",
            "",
            *lines,
            "",
            footnote(results),
            "",
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
