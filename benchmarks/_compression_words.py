# SPDX-License-Identifier: Apache-2.0
"""The table of compression.py and what it says, made from its figures."""

from __future__ import annotations

import statistics
from typing import Any

from _timing import footnote

UNPRUNED = "unpruned"
NOTICEABLE = 0.05
"""Of a time or a size: what differs by less counts as the same."""


def to_markdown(results: dict[str, Any]) -> str:
    rows = results["rows"]
    reasons = list(dict.fromkeys(filter(None, map(_refused, rows))))
    lines = []
    for row in rows:
        if row["stored"] == "sparsely":
            continue
        packed = _sibling(rows, row, stored="sparsely")
        cells = [row["model"], row["kind"], _accuracy(row, packed)]
        cells += [*_cells(row, reasons), *_cells(packed, reasons)]
        lines.append(f"| {' | '.join(cells)} |")
    teacher, student, recovery = results["epochs"]
    weights = results["weights"]
    return "\n".join(
        [
            "# Pruned and quantised, file by file",
            "",
            f"Fashion-MNIST. The teacher ({weights['teacher']:,} weights) "
            f"learned for {teacher} epochs; the student "
            f"({weights[UNPRUNED]:,} weights) was distilled for {student}, "
            "once, and every other row was made from it and recovered for "
            f"{recovery} epochs with the teacher's answers; the unpruned "
            "student had no such epochs more. Unless a row says otherwise "
            "zeros are in the convolutions alone; their share of the kernels "
            f"that were pruned: {_zeros(results)}. "
            "Every file was loaded and compared in a fresh process, or "
            "refused. Accuracy on "
            f"{results['test_images']:,} test images, each file by LiteRT; "
            f"chance alone moves one by {_chance(results):.1f} points (one "
            "standard error). "
            "Size in bytes, and gzipped. Time: one image, one thread, LiteRT; "
            f"median of {results['rounds']} processes, in each the median of "
            f"{results['repeats']} runs, all files in turn, every second round "
            "backwards; each process has another order. In brackets: times "
            "the unpruned file of the same kind.",
            "",
            "| model | kind | accuracy % | bytes | gzip | ms | stored "
            "sparsely: bytes | gzip | ms |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            *[f"({at}) {reason}\n" for at, reason in enumerate(reasons, 1)],
            f"**Do zeros make a file smaller?** {_smaller(rows)}",
            "",
            f"**Do zeros make it faster?** {_faster(rows)}",
            "",
            f"**What does, then?** {_others(rows)}",
            "",
            f"{footnote(results)} The whole run took "
            f"{results['seconds'] / 60:.0f} minutes.",
            "",
        ]
    )


def _chance(results):
    """Returns the standard error of the unpruned student's accuracy."""
    found = [r for r in results["rows"] if r["model"] == UNPRUNED]
    share = next(r["accuracy"] for r in found if "accuracy" in r)
    return 100 * (share * (1 - share) / results["test_images"]) ** 0.5


def _refused(row):
    return row.get("refused")


def _sibling(rows, row, **changes):
    """Returns the row that differs from this one in `changes`, or none."""
    keys = ("model", "kind", "stored")
    wanted = {**{key: row[key] for key in keys}, **changes}
    found = [r for r in rows if all(r[key] == wanted[key] for key in keys)]
    return found[0] if found else None


def _accuracy(*rows):
    found = [r["accuracy"] for r in rows if r and "accuracy" in r]
    # Stored either way a file computes the same: said where it does not.
    texts = dict.fromkeys(f"{100 * accuracy:.2f}" for accuracy in found)
    return " / ".join(texts) or "–"


def _cells(row, reasons):
    if row is None:
        return ["–", "–", "–"]
    if _refused(row):
        return [f"refused ({reasons.index(_refused(row)) + 1})", "–", "–"]
    times = row.get("times_as_long")
    times = f" ({times['median']:.2f})" if times else ""
    milliseconds = f"{statistics.median(row['ms']):.3f}{times}"
    return [f"{row['bytes']:,}", f"{row['gzip_bytes']:,}", milliseconds]


def _zeros(results):
    shares = results["zeros"].items()
    return ", ".join(f"{share:.1%} ({name})" for name, share in shares)


def _made(rows, stored, zeros=True):
    """Returns rows of files with zeros (or of others), each with its base."""
    with_zeros = {r["model"] for r in rows if r["stored"] == "sparsely"}
    pairs = []
    for row in rows:
        base = _sibling(rows, row, model=UNPRUNED, stored="densely")
        is_other = row["model"] != UNPRUNED and row["stored"] == stored
        if is_other and (row["model"] in with_zeros) == zeros and base:
            if not _refused(row) and not _refused(base):
                pairs.append((row, base))
    return pairs


def _name(row):
    return f"{row['model']}, {row['kind']}"


def _smaller(rows):
    """Says whether zeros saved bytes: in the file, gzipped, or packed."""
    texts = []
    for key, what in (("bytes", "files"), ("gzip_bytes", "files, gzipped")):
        shares = [row[key] / base[key] for row, base in _made(rows, "densely")]
        if not shares:
            continue
        gain = "no gain" if min(shares) > 1 - NOTICEABLE else "smaller"
        texts.append(
            f"Densely stored {what}: {gain}, {min(shares):.2f} to "
            f"{max(shares):.2f} times the bytes of the unpruned one."
        )
    packed: dict[str, list[str]] = {}
    for row, base in _made(rows, "sparsely"):
        times = base["bytes"] / row["bytes"]
        packed.setdefault(row["kind"], []).append(
            f"{times:.1f} ({row['model']})"
        )
    for kind, times in packed.items():
        texts.append(
            f"Sparsely stored {kind}, times smaller: {', '.join(times)}."
        )
    tried = [row for row in rows if row["stored"] == "sparsely"]
    refused = len(list(filter(None, map(_refused, tried))))
    texts.append(
        f"Of {len(tried)} sparsely stored files {refused} were refused."
    )
    return " ".join(texts)


def _verdict(times):
    if times["highest"] < 1 and times["median"] < 1 - NOTICEABLE:
        return "faster"
    if times["lowest"] > 1 and times["median"] > 1 + NOTICEABLE:
        return "slower"
    return "no gain"


def _faster(rows):
    """Counts the files with zeros that are faster than without, or not."""
    texts = []
    for stored in ("densely", "sparsely"):
        found = _made(rows, stored)
        if not found:
            continue
        medians = [row["times_as_long"]["median"] for row, _ in found]
        by_verdict = {}
        for row, _ in found:
            verdict = _verdict(row["times_as_long"])
            by_verdict.setdefault(verdict, []).append(_name(row))
        texts.append(
            f"Stored {stored}, {len(found)} files, {min(medians):.2f} to "
            f"{max(medians):.2f} times the time of the unpruned one."
        )
        for verdict, names in sorted(by_verdict.items(), reverse=True):
            which = f" ({'; '.join(names)})" if verdict != "no gain" else ""
            texts.append(f"{verdict.capitalize()}: {len(names)}{which}.")
    texts.append(
        "(Faster: below 1 in every process, and by more than "
        f"{NOTICEABLE:.0%} in the middle one.)"
    )
    return " ".join(texts)


def _others(rows):
    """Says what fewer channels, and kinds, do to size and time."""
    texts = []
    for row, base in _made(rows, "densely", zeros=False):
        if row["model"] != "teacher":
            texts.append(f"{_against(row, base)} the unpruned {row['kind']}.")
    bases = {r["kind"]: r for r in rows if r["model"] == UNPRUNED}
    made = [row for row in bases.values() if not _refused(row)]
    for row in made:
        if row["kind"] != "float32":
            texts.append(f"{_against(row, bases['float32'])} float32.")
    teacher = [row for row in rows if row["model"] == "teacher"][0]
    students = [r for r in rows if r["model"] != "teacher" and "ms" in r]
    fastest = min(students, key=lambda row: statistics.median(row["ms"]))
    smallest = min(students, key=lambda row: row["bytes"])
    found = {"Fastest": fastest, "Smallest": smallest}
    if fastest is smallest:
        found = {"Fastest and smallest": fastest}
    for what, row in found.items():
        stored = " (sparsely)" if row["stored"] == "sparsely" else ""
        texts.append(
            f"{what} of all is {_against(row, teacher, stored)} the teacher in "
            "float32."
        )
    return " ".join(texts)


def _against(row, base, note=""):
    """Returns a sentence about a file up to the name of the other one."""
    points = 100 * (row["accuracy"] - base["accuracy"])
    times = statistics.median(
        other / own for own, other in zip(row["ms"], base["ms"], strict=True)
    )
    return (
        f"{_name(row)}{note}: {base['bytes'] / row['bytes']:.1f} times "
        f"smaller, {times:.1f} times as fast and {points:+z.2f} points "
        "of accuracy against"
    )
