# SPDX-License-Identifier: Apache-2.0
"""20 trials of a search for T and alpha against KerasTuner the plain way.

    .venv/bin/python benchmarks/search.py    # 20 minutes on two cores
    .venv/bin/python benchmarks/search.py heavy     # anew, beside the other
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/search.py        # a look

The plain way is what Keras' guides lead to: `keras_tuner.RandomSearch` over a
function that builds a `keras.distillation.Distiller`, the teacher in it. It
is given the `KLDivergence()` instance, without which its loss is not the one
of the paper. It runs a few trials, and its figures are scaled to 20: each
builds, compiles and stores a distiller of its own, so that trials cost the
same. `keras_kd.search` runs whole, with labelling, control, logs and picture;
once as it is, once without median stopping, once with two workers.
"""

from __future__ import annotations

import statistics
import sys
import time

import keras
import keras_tuner
from _meter import measured
from _pairs import REAL_PAIRS
from _pairs import compiled
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import kept
from _timing import ratio
from _timing import spread
from _timing import verdict

import keras_kd as kd

SCRIPT = "search"
TRIALS, EPOCHS, BATCH, RATE = 6 if FAST else 20, 3, 128, 3e-3
TEMPERATURE, ALPHA = (1.0, 20.0), (0.0, 1.0)
RIVAL, OURS, ALL_EPOCHS = "keras.distillation", "search", "no trial stopped"
TWO_WORKERS = "search, workers=2"
DISK, OVERHEAD = 1 / 5, 0.10

# Images, trials of the rival, rounds, and the goal.
PAIRS: dict[str, tuple[int, int, int, float]] = {
    "depthwise": (1500, 1, 1, 5.0) if FAST else (20_000, 3, 1, 5.0),
    "heavy": (256, 1, 1, 12.0) if FAST else (6000, 1, 1, 12.0),
}


class Search:
    """Both ways to search on one pair.

    Args:
        name: The pair's.
    """

    def __init__(self, name: str):
        self.pair = REAL_PAIRS[name]
        self.images, self.rival_trials, self.rounds, _ = PAIRS[name]
        validation = self.images // 5
        x, y = self.pair.images(self.images + 2 * validation)
        cuts = self.images, self.images + validation
        parts = [
            (x[begin:end], y[begin:end])
            for begin, end in zip((0, *cuts), (*cuts, None), strict=True)
        ]
        self.data = kd.Data(*parts)
        self.teacher = self.pair.trained_teacher(
            *(part[: self.images // 2] for part in self.data.train)
        )

    def rival(self) -> dict:
        """KerasTuner and keras.distillation, as its user would write it."""
        x, y = self.data.train
        steps = EPOCHS * -(-len(x) // BATCH)

        def build(hp):
            distiller = keras.distillation.Distiller(
                teacher=self.teacher,
                student=self.pair.build_student(),
                distillation_losses=keras.distillation.LogitsDistillation(
                    temperature=hp.Float(
                        "temperature", *TEMPERATURE, sampling="log"
                    ),
                    loss=keras.losses.KLDivergence(),
                ),
                student_loss_weight=1.0 - hp.Float("alpha", *ALPHA),
            )
            rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
            return compiled(distiller, rate)

        def search(folder):
            tuner = keras_tuner.RandomSearch(
                build,
                objective="val_accuracy",
                max_trials=self.rival_trials,
                seed=1,
                directory=folder,
                project_name="plain",
            )
            tuner.search(
                x,
                y,
                validation_data=self.data.validation,
                epochs=EPOCHS,
                batch_size=BATCH,
                verbose=0,
            )

        return measured(search, TRIALS / self.rival_trials)

    def ours(self, median_stopping: bool = True, workers: int = 1) -> dict:
        """kd.search with all that it does."""

        how = {"median_stopping": median_stopping, "workers": workers}
        return measured(lambda folder: self.search(folder, **how))

    def search(self, folder, **options):
        """Returns what kd.search finds."""
        return kd.search(
            self.teacher,
            self.pair.build_student,
            self.data,
            trials=TRIALS,
            directory=folder,
            tuner="random",
            temperature=TEMPERATURE,
            alpha=ALPHA,
            learning_rate=RATE,
            epochs=EPOCHS,
            batch_size=BATCH,
            confirm=0,
            **options,
        )

    def pass_in_epochs(self) -> float:
        """Returns what a teacher pass costs, in epochs of the student."""
        x, y = self.data.train
        student = compiled(self.pair.build_student())
        student.fit(x, y, batch_size=BATCH, verbose=0)  # compiles
        self.teacher.predict(x[:BATCH], batch_size=BATCH, verbose=0)
        times = []
        for way in (self.teacher.predict, student.fit):
            data = (x, y) if way == student.fit else (x,)
            began = time.perf_counter()
            way(*data, batch_size=BATCH, verbose=0)
            times.append(time.perf_counter() - began)
        return times[0] / times[1]

    def measure(self) -> dict:
        """Returns the figures of all ways."""
        ways = {
            RIVAL: self.rival,
            OURS: self.ours,
            ALL_EPOCHS: lambda: self.ours(median_stopping=False),
            TWO_WORKERS: lambda: self.ours(workers=2),
        }
        runs = in_turn(ways, self.rounds)
        seconds = {
            name: [run["seconds"] for run in found]
            for name, found in runs.items()
        }
        return {
            "images": self.images,
            "weights": [
                self.teacher.count_params(),
                self.pair.build_student().count_params(),
            ],
            "pass_in_student_epochs": self.pass_in_epochs(),
            "rounds": self.rounds,
            "rival_trials": self.rival_trials,
            "times_faster": {
                name: ratio(seconds[RIVAL], seconds[name])
                for name in (OURS, ALL_EPOCHS, TWO_WORKERS)
            },
            "runs": runs,
        }


def median_of(runs: list[dict], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def overhead_of(run: dict) -> float:
    """Returns what a search takes beside its fits, over its fits."""
    return (run["seconds"] - run["labelling"]) / run["fits"] - 1.0


def to_markdown(results: dict) -> str:
    lines, notes = [], []
    for name, pair in results["pairs"].items():
        runs, goal = pair["runs"], PAIRS[name][-1]
        teacher, student = pair["weights"]
        lines += [
            f"## {REAL_PAIRS[name].title}",
            "",
            f"{teacher:,} to {student:,} weights, {pair['images']:,} images, "
            "a teacher pass costs "
            f"{pair['pass_in_student_epochs']:.1f} student epochs; "
            f"{pair['rounds']} round(s). `keras.distillation` ran "
            f"{pair['rival_trials']} trial(s), scaled to {TRIALS}.",
            "",
            "| search | seconds | times as fast | peak disk | epochs | "
            "labelling | fits | beside them |",
            "|---|---|---|---|---|---|---|---|",
            *(row(pair, way) for way in runs),
            "",
            *summary(pair, goal),
            "",
        ]
        notes += [f"{name}: {footnote(pair)}", ""]
    return "\n".join(
        [
            f"# {TRIALS} trials of {EPOCHS} epochs against KerasTuner the "
            "plain way",
            "",
            f"T in {list(TEMPERATURE)} (log) and alpha in {list(ALPHA)}, at "
            f"random; real images (Fashion-MNIST), batches of {BATCH}, one "
            "fifth as many to validate on. The plain way: "
            "`keras_tuner.RandomSearch` over `keras.distillation.Distiller` "
            "with the `KLDivergence()` instance, the same ranges, epochs, "
            "data and schedule; of its seconds and bytes, those of a few "
            "trials are scaled. `keras_kd.search(tuner='random', "
            f"confirm=0)` ran whole: the control is one of its {TRIALS} "
            "trials. Peak disk: all files of the search while it ran. Fits: "
            "seconds inside `fit`, tracing included. Beside them: all else "
            "but the labelling, over the fits.",
            "",
            *lines,
            *notes,
        ]
    )


def row(pair: dict, way: str) -> str:
    runs = pair["runs"][way]
    cells = [way, f"{median_of(runs, 'seconds'):.0f}"]
    times = pair["times_faster"].get(way)
    cells += [f"{spread(times, 1)} x" if times else "1"]
    cells += [f"{median_of(runs, 'bytes') / 1e6:,.1f} MB"]
    epochs = [sum(run["epochs"]) for run in runs]
    whole = TRIALS * EPOCHS
    cells += [f"{max(epochs) or whole} of {whole}"]
    cells += [f"{median_of(runs, 'labelling'):.1f} s" if times else "-"]
    if way == TWO_WORKERS:  # its fits are in other processes
        cells += ["-", "-"]
    else:
        cells += [f"{median_of(runs, 'fits'):.0f} s"]
        cells += [f"{statistics.median(map(overhead_of, runs)):+.1%}"]
    return f"| {' | '.join(cells)} |"


def summary(pair: dict, goal: float) -> list[str]:
    """Returns the goals and whether they are met, one a line."""
    ours, rival = pair["runs"][OURS], pair["runs"][RIVAL]
    times, two = (
        pair["times_faster"][w]["median"] for w in (OURS, TWO_WORKERS)
    )
    disks = [
        median_of(runs, "bytes") / median_of(rival, "bytes")
        for runs in (ours, pair["runs"][TWO_WORKERS])
    ]
    over = statistics.median(map(overhead_of, ours))
    control, first, *others = ours[-1]["traces"]
    again, of_rival = sum(others), rival[-1]["traces"]
    return [
        f"- {times:.1f} times as fast with one worker, {two:.1f} with two, "
        f"goal {goal:g}: {verdict(max(times, two) >= goal)}",
        f"- {disks[0]:.3f} of its peak disk, {disks[1]:.3f} with two workers, "
        f"goal {DISK:g}: {verdict(max(disks) <= DISK)}",
        f"- {over:+.1%} beside the fits, goal {OVERHEAD:.0%}: "
        f"{verdict(over <= OVERHEAD)}",
        f"- steps traced: {control} by the control, {first} by the first "
        f"trial with a teacher, {again} by the {len(others)} after it, goal 0: "
        f"{verdict(again == 0)} (`keras.distillation`: "
        f"{statistics.mean(of_rival):.1f} by each)",
    ]


def main(names: list[str]) -> None:
    unknown = sorted(set(names) - set(PAIRS))
    if unknown:
        raise SystemExit(f"No pair named {unknown}. There are: {list(PAIRS)}")
    keras.utils.set_random_seed(0)
    found = kept(SCRIPT).get("pairs", {})
    for name in names or PAIRS:
        print(name, flush=True)
        found[name] = {**circumstances(SCRIPT), **Search(name).measure()}
        results = {"trials": TRIALS, "epochs": EPOCHS, "pairs": found}
        keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main(sys.argv[1:])
