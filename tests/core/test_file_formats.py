# SPDX-License-Identifier: Apache-2.0
"""One table of files: export, verify, measure, help and docs go by it."""

from __future__ import annotations

import inspect

import pytest

import keras_kd as kd
import pages
from keras_kd.cli.main import main
from keras_kd.core.file_formats import SAVED_MODEL
from keras_kd.core.file_formats import TFLITE
from keras_kd.core.file_formats import format_of
from keras_kd.evaluation.runtimes import kind_of
from keras_kd.export.formats.litert import check_quantize
from keras_kd.export.formats.tolerance import tolerance_of

ROWS = kd.export.export_formats()


def test_docs_have_the_table():
    lines = [
        "| name | file | served by | stores | needs | verified |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        lines.append(
            f"| `{row.name}` | `{row.file}` | {row.runtime} | {row.stores} | "
            f"{row.needs} | {row.verified} |"
        )
    page = (pages.DOCS / "guides" / "serve.md").read_text("utf-8")
    assert "\n".join(lines) in page


def test_export_and_command_line_take_what_the_table_says(capsys):
    default = inspect.signature(kd.export.export).parameters["formats"]
    assert set(default.default) == {row.format for row in ROWS}
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for row in ROWS:
        assert tolerance_of(row.quantize, None) == row.tolerance
        check_quantize(row.quantize)
        if row.format == TFLITE:
            assert f"{row.name}: {row.stores}" in said


def test_a_file_is_told_by_its_name_and_a_folder_by_what_it_holds(tmp_path):
    for row in ROWS:
        path = tmp_path / row.file
        assert format_of(path) in (None, TFLITE)  # nothing is there yet
        if row.format == SAVED_MODEL:
            path.mkdir(parents=True)
            path /= "saved_model.pb"
        path.touch()
        assert format_of(tmp_path / row.file) == row.format
        assert kind_of(tmp_path / row.file) == row.format
    assert format_of(tmp_path) is None
