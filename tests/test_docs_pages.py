# SPDX-License-Identifier: Apache-2.0
"""The documentation: the code of its pages runs, its tables are kept ones."""

from __future__ import annotations

import functools
import importlib.util
import re

import keras
import numpy as np
import pytest

import keras_kd as kd
import pages

ROOT = pages.ROOT
PAGES = {
    str(path.relative_to(pages.DOCS)): path.read_text("utf-8")
    for path in sorted(pages.DOCS.rglob("*.md"))
}
WITH_CODE = [page for page, text in PAGES.items() if pages.BLOCK.search(text)]


@pytest.mark.docs
@pytest.mark.parametrize("page", WITH_CODE)
def test_page_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages.run(PAGES[page], page)


def test_pages_name_public_things_only():
    for page, text in PAGES.items():
        for name in set(re.findall(r"\bkd\.(\w+)", text)):
            assert hasattr(kd, name), (page, name)


def public_names():
    for module in (kd, kd.losses, kd.tasks, kd.teachers, kd.testing, kd.export):
        prefix = module.__name__.replace("keras_kd", "kd")
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and not hasattr(thing, "__path__"):
                yield f"{prefix}.{name}"


def test_reference_has_every_public_name():
    headings = {
        name
        for page, text in PAGES.items()
        if page.startswith("reference/")
        for name in re.findall(r"^      heading: (\S+)$", text, re.MULTILINE)
    }
    # `kd.export.export` is called as `kd.export`.
    assert set(public_names()) - headings <= {"kd.export.export"}


@pytest.fixture(scope="module")
def results():
    path = ROOT / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("results", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_kept_results(results, monkeypatch):
    # Each table of each page asks for the same reports again.
    load = functools.cache(results.Report.load)
    monkeypatch.setattr(results.Report, "load", load)
    reports = results.RESULTS.glob("*/report.json")
    kept = {path.parent.name for path in reports}
    assert kept == set(results.COMMANDS)
    for name in kept:
        assert f"<!-- results: {name} -->" in PAGES["results/index.md"]
    for path in results.PAGES:
        # `benchmarks/results.py --render` repairs it.
        text = path.read_text("utf-8")
        assert results.render(text) == text


def test_start_quotes_the_kept_result(results):
    words = PAGES["index.md"].replace("\n> ", " ")
    assert str(results.Report.load(results.RESULTS / "digits").gain) in words


def test_every_kept_table_is_on_a_page():
    included = "".join(PAGES.values())
    for path in (ROOT / "benchmarks" / "results").glob("*/*.md"):
        assert f'"{path.relative_to(ROOT)}"' in included, path


def test_migration_numbers_are_right():
    teacher = np.array([[6.0, 2.0, 0.0], [1.0, 5.0, 0.0]])
    student = np.array([[3.0, 1.0, 1.0], [0.0, 2.0, 1.0]])

    def log_softmax(logits):
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    log_p, log_q = log_softmax(teacher / 4.0), log_softmax(student / 4.0)
    # torch.nn.KLDivLoss, before its reduction.
    pointwise = np.exp(log_p) * (log_p - log_q)
    batchmean = pointwise.sum() / len(teacher)
    rows = {
        '`KLDivLoss()`, the default `"mean"`': pointwise.mean(),
        '`KLDivLoss(reduction="batchmean")`': batchmean,
        '`KLDivLoss(reduction="sum")`': pointwise.sum(),
        '`T * T` times `"batchmean"`': 16.0 * batchmean,
        "`kd.losses.SoftTargets(4.0)`": kd.losses.SoftTargets(4.0)(
            teacher, student
        ),
    }
    for name, value in rows.items():
        row = f"| {name} | {float(value):.5f} |"
        assert row in PAGES["migration/pytorch.md"]

    logits = keras.distillation.LogitsDistillation
    tensors = [keras.ops.cast(array, "float32") for array in (teacher, student)]
    instance = keras.losses.KLDivergence()
    for name, value in {
        "LogitsDistillation(4.0)": logits(4.0).compute_loss(*tensors),
        "LogitsDistillation(4.0, loss=keras.losses.KLDivergence())": logits(
            4.0, loss=instance
        ).compute_loss(*tensors),
        "kd.losses.SoftTargets(4.0)": 16.0 * batchmean,
    }.items():
        row = f"| `{name}` | {float(value):.4f} |"
        assert row in PAGES["migration/keras_distillation.md"]
