# SPDX-License-Identifier: Apache-2.0
"""The table of trials: cells, Markdown, a log file and a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from keras_kd.tuning.display import table
from keras_kd.tuning.trials.trial_record import TrialRecord
from tuning import sample


def shown(rows, number=9, **options):
    header, cells = table.to_cells(rows, "val_accuracy", **options)
    return header, dict(zip(header, cells[number], strict=True))


def log(*, begin=(), rows=(), trials=12, **options):
    """Returns the lines that a log file gets of a search."""
    console = Console(file=io.StringIO(), force_terminal=False)
    live = table.LiveTable("val_accuracy", trials, console=console, **options)
    live.begin(begin)
    for row in rows:
        live.running(row)
        live.ended(row)
        live.ended(row)
    live.close()
    live.close()
    return console.file.getvalue().splitlines()


def test_table_shows_temperature_alpha_and_what_varies():
    constant = {"epochs_left": 3, "optimizer": "adam"}
    rows = [
        sample.row("00", 2.0, 0.5, 0.8, units=16, **constant),
        sample.row("01", 4.0, 0.5, 0.8, units=32, **constant),
    ]
    header, cells = shown(rows, 1)
    assert header[:4] == ["trial", "temperature", "alpha", "units"]
    assert header[4:] == ["val_accuracy (%)", "best so far"] + [
        "epochs",
        "seconds",
    ]
    assert list(cells.values())[:5] == ["01", "4", "0.5", "32", "80.00"]


def test_table_says_how_trials_ended():
    _, stopped = shown(sample.mixed(), 10)
    _, failed = shown(sample.mixed(), 11)
    _, running = shown(sample.mixed(), 12)
    _, without = shown(sample.mixed(), 13)
    assert (stopped["remark"], stopped["val_accuracy (%)"]) == (
        "stopped early",
        "80.00",
    )
    assert (failed["remark"], failed["val_accuracy (%)"]) == ("failed", "–")
    assert running["remark"] == "running"
    assert (without["remark"], without["alpha"]) == ("", "–")


@pytest.mark.parametrize(
    ("direction", "stars"), [("max", [1, 3]), ("min", [1, 2])]
)
def test_table_stars_what_became_best_but_not_the_control(direction, stars):
    values = [0.70, 0.60, 0.72, 0.72]
    rows = [sample.control(0.99 if direction == "max" else 0.01)]
    rows += [sample.row(f"0{i}", 4, 0.7, v) for i, v in enumerate(values)]
    _, cells = table.to_cells(rows, "val_accuracy", direction)
    starred = [i for i, line in enumerate(cells) if line[4].endswith("*")]
    assert starred == stars
    assert cells[0][4] == "–"


def test_table_shows_other_objectives_without_percent():
    header, cells = table.to_cells(
        [sample.row("00", 4.0, 0.7, 0.123456)], "val_mean_absolute_error"
    )
    assert header[3] == "val_mean_absolute_error"
    assert cells[0][3] == "0.1235"


def test_markdown_is_one_line_per_trial_and_escaped():
    rows = sample.mixed()
    lines = table.to_markdown(rows, "val_accuracy").splitlines()
    assert len(lines) == 2 + len(rows)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {9}
    assert "<script>" not in "".join(lines)
    assert "&lt;script&gt;alert('x\\|y')" in lines[-1]


def test_time_left_is_the_median_over_the_workers():
    rows = [
        TrialRecord(str(i), {}, "completed", 0.5, seconds=s)
        for i, s in enumerate([1.0, 10.0, 100.0])
    ]
    rows.append(TrialRecord("3", {}, "failed", seconds=0.1))
    rows.append(TrialRecord("4", {}, "running"))
    assert table.time_left(rows, trials=10, workers=2) == 10.0 * 6 / 2
    assert table.time_left(rows, trials=4, workers=1) == 0
    assert table.time_left(rows[3:], trials=9, workers=1) is None


def test_log_has_one_line_per_trial():
    rows = [row for row in sample.mixed() if row.status != "running"]
    lines = log(rows=rows, trials=20)
    assert len(lines) == 1 + len(rows) + 1
    assert lines[1].startswith("[1/20] control | val_accuracy 85.00 %")
    assert [line.count("|") for line in lines[2:4]] == [4, 4]
    failed = next(line for line in lines if "trial 10" in line)
    assert "failed: ValueError: <script>" in failed and "more" not in failed
    assert any("stopped early" in line for line in lines)
    assert sample.HOSTILE in lines[-2]
    assert "1 stopped early, 1 failed. Best: " in lines[-1]
    assert "Control: 85.00 %" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_log_says_what_had_ended_before():
    rows = sample.mixed()
    lines = log(begin=rows[:5], rows=rows[5:7])
    assert "5 had ended before" in lines[0]
    assert [line.split()[0] for line in lines[1:3]] == ["[6/12]", "[7/12]"]
    assert "about 12 s left" in lines[2]  # 5 trials of 2.5 s


def test_log_counts_a_trial_run_again_once():
    first = sample.row("00", 4.0, 0.7, None, "failed")
    lines = log(rows=[first, sample.row("00", 4.0, 0.7, 0.9)])
    assert len(lines) == 4
    assert lines[-1] == "1 of 12 trials ended. Best: 90.00 % (trial 00)."


def terminal(rows, running, height=24):
    """Returns the last frame while trials run, and what remains after."""
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        force_interactive=True,
        force_jupyter=False,
        color_system=None,
        width=80,
        height=height,
    )
    live = table.LiveTable("val_accuracy", 40, console=console)
    live.begin(rows[:4])
    for row in rows[4:]:
        live.ended(row)
    for row in running:
        live.running(row)
    # Beside Live, which draws above whatever else is printed.
    plain = Console(file=io.StringIO(), width=80, height=height)
    plain.print(live._draw())
    before = console.file.tell()
    live.close()
    console.file.seek(before)
    return plain.file.getvalue(), console.file.read()


def test_terminal_keeps_the_newest_in_sight_and_ends_whole():
    rows = [sample.control(), *sample.trials(30, sample.hill)]
    rows += sample.mixed()[-1:]
    running = [sample.row("99", 3.0, 0.2, None, "running")]
    frame, after = terminal(rows, running)
    assert len(frame.splitlines()) <= 24
    assert "earlier trials not shown" in frame and " 00 " not in frame
    assert "now: trial 99 temperature 3, alpha 0.2" in frame
    assert "32 of 40 trials ended" in frame and "about 20 s left" in frame
    for name in ("control", "00", "29"):
        assert re.search(rf"(?m)^ ?{name} ", after)
    assert "now:" not in after and " left" not in after


def test_terminal_shows_words_whole():
    frame, _ = terminal(sample.mixed()[:12], [])
    assert "stopped early" in frame and "failed" in frame
