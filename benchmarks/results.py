# SPDX-License-Identifier: Apache-2.0
"""Runs the recipes whose tables are in the README, and writes them there.

    make results                                     # all; half an hour
    .venv/bin/python benchmarks/results.py digits    # one of them
    .venv/bin/python benchmarks/results.py --render  # the README only

Each run's report.json is kept in benchmarks/results/, with machine and
versions, and the README's tables are rendered from those files.
"""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys

from keras_kd.core.records import write_atomically
from keras_kd.evaluation.environment import describe
from keras_kd.losses import METHODS
from keras_kd.losses.cards import card_of
from keras_kd.report import Report
from keras_kd.report import to_markdown

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"

COMMANDS = {
    "digits": "keras-kd run digits",
    "fashion_mnist": "keras-kd run fashion_mnist",
}


def run(name: str) -> None:
    """Runs one command and keeps its report."""
    command = shlex.split(COMMANDS[name])
    program = pathlib.Path(sys.executable).with_name(command[0])
    subprocess.run([str(program), *command[1:]], cwd=ROOT, check=True)
    report = ROOT / "saved_models" / name / "report.json"
    write_atomically(RESULTS / name / "report.json", report.read_bytes())


def render(readme: str) -> str:
    """Returns the README with its tables made anew."""
    for path in sorted(RESULTS.glob("*/report.json")):
        folder = path.parent
        report = Report.load(folder)
        parts = [
            f"`{report.command}`",
            to_markdown(report.records).strip(),
            *report.remarks,
            describe(report.environment),
        ]
        readme = _between(readme, f"results: {folder.name}", parts)
    return _between(readme, "methods", [methods_table()])


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
    write_atomically(README, render(README.read_text("utf-8")))


if __name__ == "__main__":
    main(sys.argv[1:])
