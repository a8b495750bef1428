# SPDX-License-Identifier: Apache-2.0
"""Runs the recipes whose tables are in the documentation, and writes them.

    make results                                     # all; half an hour
    .venv/bin/python benchmarks/results.py digits    # one of them
    .venv/bin/python benchmarks/results.py --render  # the pages only

Each run's report.json is kept in benchmarks/results/, with machine and
versions, and the tables of docs/results/index.md are rendered from those
files. The table of docs/methods.md is rendered from the methods' docstrings.
"""

from __future__ import annotations

import math
import pathlib
import re
import shlex
import subprocess
import sys

from keras_kd import recipes
from keras_kd.core.records import write_atomically
from keras_kd.evaluation.environment import describe
from keras_kd.evaluation.gain import headline_of
from keras_kd.losses import METHODS
from keras_kd.losses.cards import card_of
from keras_kd.report import Report
from keras_kd.report import to_markdown

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    DOCS / "results" / "index.md",
    DOCS / "methods.md",
    DOCS / "explanations" / "when_it_does_not_pay.md",
)
ALL_LABELS = (
    "keras-kd run digits --directory saved_models/digits_all_labels_{0} "
    "--data labelled=None --set epochs={0} --set prune=None"
)

COMMANDS = {
    "digits": "keras-kd run digits",
    "digits_all_labels_2": ALL_LABELS.format(2),
    "digits_all_labels_5": ALL_LABELS.format(5),
    "digits_all_labels_60": ALL_LABELS.format(60),
    "fashion_mnist": "keras-kd run fashion_mnist",
    "letters": "keras-kd run letters",
    "movies": "keras-kd run movies",
    "next_word": "keras-kd run next_word",
    "houses": "keras-kd run houses",
    "watch": "keras-kd run watch",
    "land_and_sea": "keras-kd run land_and_sea",
    "snippets": "keras-kd run snippets",
    "snippets_transformer": "keras-kd run snippets_transformer",
    "scenes": "keras-kd run scenes",
    "scenes_seen": "keras-kd run scenes_seen",
    "tags": "keras-kd run tags",
    "debtags": "keras-kd run debtags",
    "stamps": "keras-kd run stamps",
    "voices": "keras-kd run voices",
}


def run(name: str) -> None:
    """Runs one command and keeps its report."""
    command = shlex.split(COMMANDS[name])
    program = pathlib.Path(sys.executable).with_name(command[0])
    subprocess.run([str(program), *command[1:]], cwd=ROOT, check=True)
    report = ROOT / "saved_models" / name / "report.json"
    write_atomically(RESULTS / name / "report.json", report.read_bytes())


def render(page: str) -> str:
    """Returns a page with its tables made anew."""
    for path in sorted(RESULTS.glob("*/report.json")):
        folder = path.parent
        report = Report.load(folder)
        parts = [
            f"`{report.command}`",
            to_markdown(report.records).strip(),
            *report.remarks,
            describe(report.environment),
        ]
        page = _between(page, f"results: {folder.name}", parts)
    page = _between(page, "gains", [gains_table()])
    page = _between(page, "recipes", [recipes_table()])
    page = _between(page, "nearness", [nearness_table()])
    return _between(page, "methods", [methods_table()])


def gains_table() -> str:
    """Returns what digits gained, by labels and epochs, one run a row."""
    rows = [
        "| labels | epochs | control % | distilled % | difference in points |",
        "|---|---:|---:|---:|---|",
    ]
    for name in (name for name in COMMANDS if name.startswith("digits")):
        report = Report.load(RESULTS / name)
        gain, settings = report.gain, report.records[2].settings
        labels = "all 1,077" if "all_labels" in name else "100"
        rows.append(
            f"| {labels} | {settings['epochs']} | {gain.control:.2f} | "
            f"{gain.distilled:.2f} | {gain.mean:+z.2f} ({gain.low:+z.2f} to "
            f"{gain.high:+z.2f}): {gain.verdict} |"
        )
    return "\n".join(rows)


def recipes_table() -> str:
    """Returns what each recipe gained, and what its smallest file saves."""
    rows = [
        "| recipe | task | teacher | control | distilled | gain (95 % "
        "interval, 5 seeds) | smallest file: size, time against the "
        "teacher's |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for name in recipes.available():
        about = recipes.load(name).about
        report = Report.load(RESULTS / name)
        gain, told = report.gain, headline_of(report.records)
        teacher = next(r for r in report.records if r.stage == "teacher")
        best = max(report.comparisons, key=lambda c: c.smaller, default=None)
        saved = "\N{EN DASH}"  # the teacher is no file of the same runtime
        if best is not None:
            saved = f"1/{best.smaller:.0f}, 1/{best.faster:.1f}"
        values = [teacher.metrics[told.name]]
        values += [mean / told.scale for mean in (gain.control, gain.distilled)]
        seeds = "" if gain.n == 5 else f", {gain.n} seeds"
        rows.append(
            f"| `{name}` | {about['task']} | "
            f"{' | '.join(map(told.text, values))} | "
            f"{about['gained'][:-1]}{seeds}) | {saved} |"
        )
    return "\n".join(rows)


def nearness_table() -> str:
    """Returns how near the fastest file of each recipe is to its teacher's.

    Recipes whose teacher is no file of the same runtime are left out, and
    those whose headline is no share of something.
    """
    rows = [
        "| recipe | file | weights | times as fast | points | of the "
        "teacher's figure | within 3 points, 10 times as fast | 97 % with "
        "40 % fewer weights |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    for name in recipes.available():
        records = {r.name: r for r in Report.load(RESULTS / name).records}
        found = Report.load(RESULTS / name).comparisons
        fastest = max(found, key=lambda c: c.faster, default=None)
        told = headline_of(list(records.values()))
        if fastest is None or told.scale != 100:
            continue
        teacher = records["teacher"].metrics
        own = records[fastest.name].metrics
        weights = own["parameters"] / teacher["parameters"]
        share = own[told.name] / teacher[told.name]
        near = fastest.points >= -3 and fastest.faster >= 10
        compact = share >= 0.97 and weights <= 0.6
        shown = math.floor(1000 * share) / 10  # 96.99 % is not 97
        rows.append(
            f"| `{name}` | {fastest.name} | 1/{1 / weights:.1f} | "
            f"{fastest.faster:.1f} | {fastest.points:+z.2f} | {shown:.1f}% | "
            f"{_YES[near]} | {_YES[compact]} |"
        )
    return "\n".join(rows)


_YES = {True: "yes", False: "no"}


def methods_table() -> str:
    """Returns the cards of all methods as a table, one method a row."""
    rows = ["| loss | what it does | use it | paper |", "|---|---|---|---|"]
    for card in map(card_of, METHODS):
        paper = re.sub(r"(https?://\S+)", r"[link](\1)", card.paper)
        rows.append(
            f"| `{card.name}` | {card.summary} | {card.use} | {paper} |"
        )
    return "\n".join(rows)


def _between(text, mark, parts):
    body = "\n\n".join(parts)
    pattern = rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- end of )"
    return re.sub(
        pattern,
        lambda match: f"{match[1]}{body}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )


def main(names: list[str]) -> None:
    if names != ["--render"]:
        for name in names or COMMANDS:
            run(name)
    for page in PAGES:
        write_atomically(page, render(page.read_text("utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
