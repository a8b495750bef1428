# SPDX-License-Identifier: Apache-2.0
"""keras-kd: exit codes, messages, and a recipe from end to end."""

from __future__ import annotations

import argparse
import functools
import json
import os
import runpy
import subprocess
import sys

import pytest

import keras_kd
from cli.tiny_recipe import RECIPE
from keras_kd import recipes
from keras_kd.cli import main
from keras_kd.cli.quiet import held_stderr
from keras_kd.core.records import file_sha256
from keras_kd.evaluation import evaluator
from keras_kd.evaluation import latency
from keras_kd.recipes._settings import OF_TEACHER
from keras_kd.report import Report

MEASURED = (
    *("accuracy", "class_accuracy", "ece", "agreement"),
    *("bytes", "gzip_bytes", "parameters", "nonzero_parameters"),
    *("latency_ms_p50", "latency_ms_p99", "throughput_per_second"),
    "peak_memory_bytes",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of a recipe of one's own; all tests below look at it."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "my_recipe.py"
    # It is traced in a third of Adam's time, and so is one step to two.
    recipe.write_text(
        RECIPE.replace("dict(", 'dict(optimizer="sgd",').replace("=16", "=32")
        + "\ndef remarks(directory):\n"
        + "    return [f'{directory.name} says it.', 'A second remark.']\n"
    )
    directory = folder / "mine"
    call = ["run", str(recipe), "--directory", str(directory)]
    # No test looks at how long anything takes.
    few = functools.partial(latency, repeats=10, warmup=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "latency", few)
        assert main(call) == 0
    return call, directory


def test_run_writes_files_and_report(run):
    _, directory = run
    assert (directory / "1" / "saved_model.pb").is_file()
    assert (directory / "mine.tflite").is_file()
    for kind in ("html", "json", "md", "png"):
        assert (directory / f"report.{kind}").stat().st_size > 100
    names = [record.name for record in Report.load(directory).records]
    assert names == [
        "teacher",
        "teacher .tflite",
        "control",
        "pruned control",
        "distilled",
        "pruned",
        "SavedModel",
        ".tflite",
    ]


def test_run_shows_the_remarks_of_the_recipe(run):
    _, directory = run
    for kind in ("md", "html"):
        page = (directory / f"report.{kind}").read_text("utf-8")
        assert page.count("mine says it.") == 1
        assert page.count("A second remark.") == 1


def test_run_measures_every_row(run):
    _, directory = run
    for record in Report.load(directory).records:
        for metric in MEASURED:
            assert metric in record.metrics, (record.name, metric)
        assert 0 <= record.metrics["accuracy"] <= 1


def test_run_page_tells_where_the_files_come_from(run):
    _, directory = run
    page = (directory / "report.html").read_text("utf-8")
    names = [stage.name for stage in Report.load(directory).lineage]
    assert names[:4] == ["trained-teacher", "teacher", "control-0", "control-1"]
    assert names[4:] == [
        *("student-0", "student-1", "pruned", "pruned-control"),
        *("export", "teacher-tflite", "figures"),
    ]
    digest = file_sha256(directory / "mine.tflite")
    assert f"<td>mine.tflite</td><td>{digest}</td>" in page
    assert "test examples differently" in page


def test_run_files_answer_as_the_pruned_student(run):
    _, directory = run
    records = {r.name: r for r in Report.load(directory).records}
    for name in ("SavedModel", ".tflite"):
        assert records[name].metrics["max_difference"] < 1e-4
        assert (
            records[name].metrics["accuracy"]
            == records["pruned"].metrics["accuracy"]
        )


def test_run_compares_the_file_with_the_teachers_in_one_runtime(run):
    _, directory = run
    file = directory / "stages" / "teacher" / "teacher.tflite"
    content = json.loads((directory / "report.json").read_text())
    (found,) = content["comparisons"]
    sizes = [path.stat().st_size for path in (file, directory / "mine.tflite")]
    assert found["name"] == ".tflite"
    assert found["smaller"] == pytest.approx(sizes[0] / sizes[1])
    assert found["faster"] > 0
    records = {r["name"]: r["metrics"] for r in content["records"]}
    teacher = records["teacher .tflite"]
    assert teacher["agreement"] == 1 and teacher["max_difference"] < 1e-4
    assert teacher["accuracy"] == records["teacher"]["accuracy"]
    for kind in ("html", "md"):
        text = (directory / f"report.{kind}").read_text("utf-8")
        assert "both in LiteRT at batch 1 on one thread" in text
        assert not list(directory.glob("teacher*"))


@pytest.mark.slow
def test_run_without_a_tflite_teacher_says_so(tmp_path, monkeypatch):
    from keras_kd.workflows import compress
    from keras_kd.workflows import export_stages as runs

    exporting = runs.export

    def refusing(model, directory, name, **options):
        if name == "teacher":
            raise RuntimeError("an operation that LiteRT lacks")
        return exporting(model, directory, name=name, **options)

    monkeypatch.setattr(runs, "export", refusing)
    recipe = tmp_path / "my_recipe.py"
    recipe.write_text(RECIPE)
    recipe = recipes.load(recipe)
    report = compress.compress(
        recipe.build_teacher(),
        recipe.build_student,
        recipe.load_data(),
        tmp_path / "mine",
        epochs=1,
        seeds=(0,),
        control=False,
        prune=None,
        formats=("tflite",),
    )
    assert report.comparisons == []
    assert [r.name for r in report.records] == [
        *("teacher", "distilled", ".tflite"),
    ]
    assert "an operation that LiteRT lacks" in repr(report)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (None, "int8")),
        (["--quantize", "float32"], None),
        (["--quantize", "float16", "int8"], ["float16", "int8"]),
        (["--quantize", "int8", "int8", "RECIPE"], ["int8", "int8"]),
        (["--quantize", "int8", "RECIPE"], "int8"),
    ],
)
def test_quantize_of_the_call_goes_before_the_recipes(
    words, expected, tmp_path, monkeypatch
):
    recipe = tmp_path / "my_recipe.py"
    recipe.write_text(RECIPE.replace("dict(", 'dict(quantize=(None, "int8"),'))
    asked = {}

    def compress(*args, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_kd.workflows.recipe_runs.compress", compress)
    monkeypatch.setattr(
        "keras_kd.workflows.recipe_runs._teacher_and_data",
        lambda *args: (None, None),
    )
    if words[-1:] != ["RECIPE"]:
        words = ["RECIPE", *words]
    words = [str(recipe) if word == "RECIPE" else word for word in words]
    call = ["run", "--directory", str(tmp_path / "mine"), *words]
    assert main(call) == 130
    assert asked["quantize"] == expected


def test_run_pairs_seeds_of_control_and_student(run):
    _, directory = run
    gain = Report.load(directory).gain
    assert gain.n == 2
    content = json.loads((directory / "report.json").read_text())
    metrics = {r["name"]: r["metrics"] for r in content["records"]}
    assert metrics["control"]["seeds"] == metrics["distilled"]["seeds"]
    assert metrics["control"]["steps"] == metrics["distilled"]["steps"]


def test_run_again_trains_nothing(run, capsys, monkeypatch):
    call, directory = run

    def fail(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr("keras_kd.workflows.seeds.train", fail)
    monkeypatch.setattr("keras_kd.workflows.recipe_runs.train", fail)
    monkeypatch.setattr("keras_kd.workflows.stages.prune", fail)
    monkeypatch.setattr("keras_kd.workflows.export_stages.export", fail)
    # The same rows have the same picture.
    drawn = (directory / "report.png").read_bytes()
    monkeypatch.setattr("keras_kd.report.picture.render", lambda *_: drawn)
    assert main(call) == 0
    out = capsys.readouterr().out
    assert "student-0: done before" in out
    assert "distilled" in out
    assert not (directory / "2").exists()


@pytest.mark.slow
def test_run_goes_on_after_a_kill(run, capsys, monkeypatch):
    call, directory = run
    # As a kill in the middle of pruning leaves it: no record of the stage.
    (directory / "stages" / "pruned.json").unlink()
    monkeypatch.setattr("keras_kd.workflows.seeds.train", None)
    assert main(call) == 0
    out = capsys.readouterr().out
    assert "student-1: done before" in out
    assert "pruned: to 50% zeros" in out


def test_report_prints_the_table(run, capsys):
    _, directory = run
    assert main(["report", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "distilled" in out
    assert "Distilled minus control over 2 paired seeds" in out


def test_verify_passes_then_names_the_damaged_file(run, capsys):
    _, directory = run
    assert main(["verify", str(directory)]) == 0
    assert "FAILED" not in capsys.readouterr().out
    path = directory / "mine.tflite"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        assert main(["verify", str(directory)]) == 1
    finally:
        path.write_bytes(sound)
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "mine.tflite" in out


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (["run", "digit"], "Did you mean 'digits'"),
        (["run", "nowhere/recipe.py"], "no recipe file"),
        (["run", "digits", "--set", "temprature=2"], "temperature"),
        (["run", "digits", "--set", "temperature"], "KEY=VALUE"),
        (["run", "digits", "--data", "labeled=9"], "'labelled'"),
        (["search", "digits", "--data", "labeled=9"], "'labelled'"),
        (["report", "nowhere"], "no report in 'nowhere'. Expected"),
        (["verify", "nowhere"], "nothing that can be verified"),
    ],
)
def test_bad_call_is_answered_in_words(call, text, capsys):
    assert main(call) == 2
    assert text in capsys.readouterr().err


def test_verify_of_the_parent_finds_the_models_in_it(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(
        "keras_kd.export.verification.directory._check",
        lambda path, trust: checked.append(path),
    )
    files = ("a/1/saved_model.pb", "b/b.tflite", "b/serving/x", "c/x")
    for path in (*files, "a/control/1/saved_model.pb"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    assert main(["verify", str(tmp_path)]) == 0
    expected = ["a/1", "a/control/1", "b/b.tflite", "b/serving"]
    assert checked == [tmp_path / path for path in expected]


def commands_of(parser):
    """Yields each command's call, what the list says of it, and its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                command = action.choices[choice.dest]
                yield command.prog, choice.help, command
                yield from commands_of(command)


def test_help_tells_every_command_in_a_sentence():
    parser = sys.modules["keras_kd.cli.main"]._parser()
    found = {call: (told, own) for call, told, own in commands_of(parser)}
    assert {"keras-kd run", "keras-kd targets build"} <= set(found)
    for call, (told, command) in found.items():
        assert told[0].isupper() and told.endswith("."), call
        assert told in command.description, call
    assert "keras-kd run digits" in parser.format_help()
    (of_run,) = [
        a for a in found["keras-kd run"][1]._actions if a.dest == "set"
    ]
    own = [name for name in OF_TEACHER if name not in of_run.help]
    assert "kd.compress" in of_run.help and not own


def test_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert keras_kd.__version__ in capsys.readouterr().out


def test_stderr_is_held_and_given_back_on_error(capfd):
    with held_stderr():
        os.write(2, b"a notice")
    assert capfd.readouterr().err == ""
    with pytest.raises(ImportError), held_stderr():
        os.write(2, b"why it failed")
        raise ImportError
    assert capfd.readouterr().err == "why it failed"
    os.write(2, b"open again")
    assert capfd.readouterr().err == "open again"


@pytest.mark.slow
def test_first_words_are_ours():
    environment = dict(os.environ)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, "-m", "keras_kd.cli", "report", "nowhere"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stderr.startswith("keras-kd: There is no report in 'nowhere'")
    assert done.stdout == ""


def test_methods_and_recipes_are_listed(capsys):
    assert main(["methods"]) == 0
    assert "SoftTargets" in capsys.readouterr().out
    assert main(["recipes"]) == 0
    assert "digits" in capsys.readouterr().out


def test_interrupt_keeps_what_is_done(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "keras_kd.workflows.recipe_runs.run_recipe", interrupted
    )
    assert main(["run", "digits"]) == 130
    assert "continues from there" in capsys.readouterr().err


def test_run_where_nothing_can_be_written_is_a_sentence(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert main(["run", "digits", "--directory", str(file / "run")]) == 2
    assert f"keras-kd: {file} is a file. Expected" in capsys.readouterr().err


def test_module_calls_itself_by_the_commands_name(monkeypatch):
    """What a report says that it was made by is a command that works."""
    monkeypatch.setattr(sys, "argv", ["cli/__main__.py", "recipes"])
    command = sys.modules["keras_kd.cli.main"]
    monkeypatch.setattr(command, "main", lambda: " ".join(sys.argv))
    with pytest.raises(SystemExit, match="^keras-kd recipes$"):
        runpy.run_module("keras_kd.cli", run_name="__main__")
