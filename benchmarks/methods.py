# SPDX-License-Identifier: Apache-2.0
"""The same student on Fashion-MNIST by every method, with the papers' weights.

    make bench-methods
    .venv/bin/python benchmarks/methods.py soft_targets review  # some of them
    .venv/bin/python benchmarks/methods.py --time    # seconds per epoch only
    .venv/bin/python benchmarks/methods.py --render  # the table only

Every method trains the student from the same start (one per seed), on the
same 10,000 labelled images, for the same number of steps, with Adam and a
cosine decay; nothing is tuned for a method. Where a paper adds its loss with
weight w to the label loss, this is `alpha=0.5, weight=w`: half of the paper's
sum, which Adam does not see. Each run is kept as soon as it is done, so a
benchmark that was stopped goes on where it was.

Times are taken apart from the accuracies: all methods in turn in one process
on fewer images, with the teacher live in the step, each beside a control, as
medians of the ratios of the two.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import pathlib
import statistics
import time

import keras
import numpy as np
from _method_rows import EPOCHS
from _method_rows import ROWS
from _method_rows import Row

import keras_kd as kd
from keras_kd.core.records import write_atomically
from keras_kd.evaluation.environment import describe
from keras_kd.evaluation.environment import environment
from keras_kd.evaluation.gain import paired_gain
from keras_kd.recipes import fashion_mnist
from keras_kd.targets.attached import attach_targets
from keras_kd.training.trainer import train

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "methods"
TEACHER = ROOT / "saved_models/fashion_mnist/stages/trained-teacher.keras"
SETTINGS = dict(
    images=10_000, epochs=EPOCHS, batch_size=128, learning_rate=3e-3, seeds=3
)
TIMED_IMAGES, ROUNDS = 2_560, 11


@functools.cache
def teacher() -> keras.Model:
    """Returns the recipe's teacher, trained unless `keras-kd run` has."""
    if not TEACHER.exists():
        settings = fashion_mnist.settings
        model, _ = train(
            fashion_mnist.build_teacher,
            fashion_mnist.load_teacher_data(),
            title="teacher",
            epochs=settings["teacher_epochs"],
            batch_size=settings["batch_size"],
            learning_rate=settings["teacher_learning_rate"],
        )
        TEACHER.parent.mkdir(parents=True, exist_ok=True)
        model.save(TEACHER)
    # Layers are named by counting them, and the rows name layers.
    keras.utils.clear_session(free_memory=False)
    model = fashion_mnist.build_teacher()
    trained = keras.models.load_model(TEACHER)
    model.set_weights(trained.get_weights())
    return model


@functools.cache
def data() -> tuple:
    """Returns `(x, y, x_test, y_test)`."""
    splits = fashion_mnist.load_data(labelled=None)
    x, y = splits.train
    return (*(part[: SETTINGS["images"]] for part in (x, y)), *splits.test)


@functools.cache
def stored(tap: str) -> np.ndarray:
    """Returns a tap of the teacher on the training images, computed once."""
    view = kd.tap(teacher(), [tap])
    return view.predict(data()[0], batch_size=500, verbose=0)[tap]


def model_of(row: Row, seed: int, live: bool, steps: int):
    """Returns `(student, model to fit, its inputs)`."""
    teacher()  # before the layers are counted anew
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    student = fashion_mnist.build_student()
    x = data()[0]
    model = student
    if row.make is not None:
        losses = row.make(steps)
        source = row.teacher(steps) if row.teacher else teacher()
        if not live and not row.teacher:
            taps = {tap for loss in losses for tap in loss.taps[0]}
            x = attach_targets(x, {tap: stored(tap) for tap in taps})
            source = None
        if any(loss.index_aware for loss in losses):
            index = {"sample_index": np.arange(len(data()[0]))}
            if isinstance(x, dict):
                x["teacher_targets"].update(index)
            else:
                x = attach_targets(x, index)
        model = kd.Distiller(
            source, student, alpha=row.alpha, distillation_losses=losses
        )
    rate = keras.optimizers.schedules.CosineDecay(
        SETTINGS["learning_rate"], steps
    )
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return student, model, x


def steps_of(epochs: int, images: int) -> int:
    return epochs * -(-images // SETTINGS["batch_size"])


def accuracy_of(row: Row, seed: int) -> dict:
    """Trains one student; returns its figures on the test images."""
    began = time.perf_counter()
    _, y, x_test, y_test = data()
    steps = steps_of(SETTINGS["epochs"], SETTINGS["images"])
    student, model, x = model_of(row, seed, live=False, steps=steps)
    model.fit(
        x,
        y,
        batch_size=SETTINGS["batch_size"],
        epochs=SETTINGS["epochs"],
        callbacks=row.callbacks(SETTINGS["epochs"]) if row.callbacks else [],
        verbose=0,
    )
    answers = student.predict(x_test, batch_size=500, verbose=0)
    same = answers.argmax(-1) == teacher_answers()
    return {
        "accuracy": float((answers.argmax(-1) == y_test).mean()),
        "agreement": float(same.mean()),
        "seconds": time.perf_counter() - began,
    }


@functools.cache
def teacher_answers() -> np.ndarray:
    answers = teacher().predict(data()[2], batch_size=500, verbose=0)
    return answers.argmax(-1)


def times(rows: dict) -> dict:
    """Returns each method's seconds per epoch and ratio to the control."""
    steps = steps_of(ROUNDS + 1, TIMED_IMAGES)
    fits = {
        name: model_of(row, 0, live=True, steps=steps)[1:]
        for name, row in rows.items()
    }
    y = data()[1][:TIMED_IMAGES]

    def seconds(name):
        model, x = fits[name]
        x = keras.tree.map_structure(lambda a: a[:TIMED_IMAGES], x)
        began = time.perf_counter()
        model.fit(x, y, batch_size=SETTINGS["batch_size"], verbose=0)
        return time.perf_counter() - began

    found = {name: [] for name in rows}
    for round_ in range(ROUNDS + 1):
        for name in rows:
            # The control next to it: a machine's speed drifts.
            pair = seconds("control"), seconds(name)
            if round_:  # the first one compiles
                found[name].append(pair)
            print(".", end="", flush=True)
    print()
    return {
        name: {
            "seconds_per_10000_images": statistics.median(
                own for _, own in pairs
            )
            * (10_000 / TIMED_IMAGES),
            "ratio_to_control": statistics.median(
                own / control for control, own in pairs
            ),
        }
        for name, pairs in found.items()
    }


def load() -> dict:
    file = RESULTS / "results.json"
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if found and found["settings"] != SETTINGS:
        raise SystemExit(
            f"{file} holds runs with other settings, {found['settings']}. "
            f"Expected {SETTINGS}. Move it away to start anew."
        )
    return {"settings": SETTINGS, "runs": {}, "times": {}, **found}


def save(results: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=True) + "\n"
    write_atomically(RESULTS / "results.json", text)
    write_atomically(RESULTS / "README.md", to_markdown(results))


def to_markdown(results: dict) -> str:
    """Returns the table, best gain first."""
    runs, settings = results["runs"], results["settings"]
    control = runs.get("control", {})
    lines, found = [], []
    for name, row in ROWS.items():
        own = runs.get(name, {})
        seeds = sorted(set(own) & set(control))
        if not seeds or name == "control":
            continue
        pair = [
            [each[seed]["accuracy"] for seed in seeds]
            for each in (control, own)
        ]
        gain = paired_gain(*pair)
        agreement = np.mean([own[seed]["agreement"] for seed in seeds])
        found.append((gain, name, row, agreement))
    for gain, name, row, agreement in sorted(found, key=lambda f: -f[0].mean):
        timed = results["times"].get(name)
        ratio = f"{timed['ratio_to_control']:.2f}" if timed else "-"
        spread = "" if gain.deviation is None else f" ± {gain.deviation:.2f}"
        lines.append(
            f"| `{name}` | {row.settings} | {gain.distilled:.2f} | "
            f"{gain.mean:+z.2f}{spread} | {gain.verdict} | {agreement:.1%} | "
            f"{ratio} |"
        )
    accuracies = [run["accuracy"] for run in control.values()]
    timed = results["times"].get("control")
    cost = (
        f" An epoch of the control took {timed['seconds_per_10000_images']:.2f}"
        " s."
        if timed
        else ""
    )
    return "\n".join(
        [
            "# Every method on one student",
            "",
            f"Written by `make bench-methods` on {results.get('date', '-')}; "
            "see `benchmarks/methods.py` for what it does.",
            "",
            f"Fashion-MNIST, {settings['images']:,} labelled images, "
            f"{settings['epochs']} epochs, {settings['seeds']} seeds; teacher "
            f"{results.get('teacher', float('nan')):.2%} on the test images, "
            f"control (no teacher) {np.mean(accuracies):.2%}.{cost} Gain: "
            "points over the control of the same seed, mean ± standard "
            "deviation; its verdict is by the 95 % interval of the mean. Time: "
            "an epoch with the teacher live in the step, over one of the "
            "control.",
            "",
            "| method | settings | accuracy % | gain | verdict | agrees with "
            "teacher | time |",
            "|---|---|---|---|---|---|---|",
            *lines,
            "",
            "`AttentionMaps` is not here: these networks have no attention. "
            "Mutual learning, generations, assistants and other kinds that "
            "are no loss are compared in notebook 03.",
            "",
            describe(results["environment"])
            if "environment" in results
            else "",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="*", help="Default: all")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    unknown = sorted(set(options.methods) - set(ROWS))
    if unknown:
        raise SystemExit(f"No method named {unknown}. There are: {list(ROWS)}")
    names = options.methods or list(ROWS)
    results = load()
    if options.render:
        return save(results)
    results["environment"] = environment()
    results["date"] = datetime.date.today().isoformat()
    if not options.time:
        results["teacher"] = float((teacher_answers() == data()[3]).mean())
        for seed in map(str, range(SETTINGS["seeds"])):
            for name in dict.fromkeys(["control", *names]):
                runs = results["runs"].setdefault(name, {})
                if seed not in runs:
                    runs[seed] = accuracy_of(ROWS[name], int(seed))
                    save(results)
                    print(f"{name} seed {seed}: {runs[seed]}", flush=True)
    if options.time or not options.methods:
        results["times"] |= times({n: ROWS[n] for n in ["control", *names]})
        save(results)
    print(to_markdown(results))


if __name__ == "__main__":
    main()
