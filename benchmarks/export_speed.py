# SPDX-License-Identifier: Apache-2.0
"""What export and verify cost beside Keras' own export and LiteRT's converter.

    .venv/bin/python benchmarks/export_speed.py         # about four minutes
    KERAS_KD_FAST=1 .venv/bin/python benchmarks/export_speed.py   # a look

The student of the recipe digits, untrained. The baseline of a file is
`model.export` and one conversion with the same options, which proves nothing:
no process that loads it, no answers that are compared, no manifest. All are
timed in turn, in one process, and compared within a round.
"""

from __future__ import annotations

import functools
import itertools
import pathlib
import tempfile

import keras
import tensorflow as tf
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import in_turn
from _timing import keep
from _timing import ratio
from _timing import seconds_of
from _timing import spread

import keras_kd as kd
from keras_kd.recipes import digits

SCRIPT = "export_speed"
ROUNDS = 1 if FAST else 5
# Not int4: its library is an extra.
ROWS = [
    row
    for row in kd.export.export_formats()
    if row.name in ("saved_model", "float32", "int8" if FAST else row.name)
    and row.name != "int4"
]


def baseline(row, student, x, folder):
    """Keras' export, and LiteRT's converter for a .tflite file."""
    source = folder / "saved_model"
    student.export(source, verbose=False)
    if row.format == "saved_model":
        return
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    if row.quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if row.quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if row.is_integer:
        converter.representative_dataset = lambda: ([a[None]] for a in x)
        builtins = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
        converter.target_spec.supported_ops = [builtins]
    if row.quantize == "full_int8":
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    (folder / "student.tflite").write_bytes(converter.convert())


def exported(row, student, x, folder):
    kd.export(
        student,
        folder,
        "student",
        formats=row.format,
        quantize=row.quantize,
        inputs=x,
        head="logits",
        verbose=0,
    )


def verified(folder):
    problems = {found for _, found in kd.export.verify_directory(folder)}
    if problems != {None}:
        raise RuntimeError(problems)


def measure() -> dict:
    """Returns seconds of each step, and their ratios, by file."""
    keras.utils.set_random_seed(0)
    student = digits.build_student()
    x = digits.load_data().train[0][:200]
    with tempfile.TemporaryDirectory() as directory:
        names = map(str, itertools.count())
        steps = {}
        for row in ROWS:
            one = functools.partial(exported, row, student, x)
            kept = pathlib.Path(directory, "kept", row.name)
            one(kept)

            def in_new_folder(step, directory=directory):
                folder = pathlib.Path(directory, next(names))
                folder.mkdir()
                step(folder)

            alone = functools.partial(baseline, row, student, x)
            for name, step in {
                "baseline": functools.partial(in_new_folder, alone),
                "export": functools.partial(in_new_folder, one),
                "verify": functools.partial(verified, kept / "student"),
            }.items():
                steps[f"{row.name} {name}"] = seconds_of(step)
        seconds = in_turn(steps, ROUNDS, warm_up=1)
    files = {}
    for row in ROWS:
        of = {
            step: seconds[f"{row.name} {step}"]
            for step in ("baseline", "export", "verify")
        }
        files[row.name] = {
            "seconds": of,
            "export": ratio(of["export"], of["baseline"]),
            "verify": ratio(of["verify"], of["baseline"]),
        }
    return files


def to_markdown(results: dict) -> str:
    lines = [
        f"| {name} | {min(found['seconds']['baseline']):.2f} s | "
        f"{spread(found['export'], 1)} | {spread(found['verify'], 1)} |"
        for name, found in results["files"].items()
    ]
    return "\n".join(
        [
            "# Speed of export and verify",
            "",
            "The digits student. The baseline is `model.export` and one "
            "conversion by LiteRT's converter; the others are multiples of it, "
            f"median (lowest to highest) of {ROUNDS} rounds. `export` writes "
            "the file, its golden answers and its manifest, and loads and "
            "tries it in fresh processes; `verify` is `keras-kd verify` of "
            "one file.",
            "",
            "| file | baseline | export | verify |",
            "|---|---|---|---|",
            *lines,
            "",
            footnote(results),
            "",
        ]
    )


def main() -> None:
    results = {**circumstances(SCRIPT), "files": measure()}
    keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main()
