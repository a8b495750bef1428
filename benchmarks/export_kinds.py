# SPDX-License-Identifier: Apache-2.0
"""Which files ten architectures become, and what each file keeps.

    .venv/bin/python benchmarks/export_kinds.py             # about ten minutes
    .venv/bin/python benchmarks/export_kinds.py U-Net BiGRU # some, anew

What is kept is compared with the model itself, on 64 examples that int8 did
not learn its ranges from: the share of equal decisions, or R2.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time

import keras
from _export_models import MODELS
from _timing import FAST
from _timing import circumstances
from _timing import footnote
from _timing import keep
from _timing import kept as figures_before

import keras_kd as kd
from keras_kd.evaluation.runtimes import load_runner
from keras_kd.export.verification.cost import kept

SCRIPT = "export_kinds"
KINDS = ("saved_model", "float32", "dynamic", "int8", "full_int8")
ROWS = 64


def rows(x, *which):
    return keras.tree.map_structure(lambda a: a[slice(*which)], x)


def exported(model, x, head, kinds) -> dict:
    """Exports some kinds at once, and returns what each keeps."""
    chosen = [kd_quantize(k) for k in kinds if k != "saved_model"]
    formats = ["saved_model"] if "saved_model" in kinds else []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        record = kd.export(
            model,
            folder,
            "student",
            formats=[*formats, *(["tflite"] if chosen else [])],
            quantize=chosen or None,
            inputs=rows(x, ROWS, None),
            head=head,
            verbose=0,
        )
        seconds = time.perf_counter() - began
        asked = rows(x, 0, ROWS)
        files = {row.name: row.file for row in kd.export.export_formats()}
        expected = load_runner(model)(asked)
        found = {}
        for kind in kinds:
            measured = record.metrics.get(
                kind, record.metrics.get(f"tflite.{kind}")
            )
            answers = load_runner(f"{folder}/{files[kind]}")(asked)
            name = next(n for n in ("logits", "output") if n in answers)
            (wanted,) = expected.values()
            share = kept({name: wanted}, {name: answers[name]})
            found[kind] = {
                "kept": share.get(name),
                "bytes": measured["bytes"],
                "max_difference": measured["max_difference"],
                "seconds_of_all": seconds,
            }
    return found


def kd_quantize(kind):
    return next(
        row.quantize for row in kd.export.export_formats() if row.name == kind
    )


def measure(name: str) -> dict:
    """Returns for each kind what it keeps, or why it is refused."""
    keras.utils.set_random_seed(0)
    try:
        model, x, head = MODELS[name]()
    except ImportError as error:
        return {kind: {"refused": told(str(error))} for kind in KINDS}
    try:
        return exported(model, x, head, KINDS)
    except (ValueError, RuntimeError):
        pass
    found = {}
    for kind in KINDS:
        try:
            found |= exported(model, x, head, [kind])
        except (ValueError, RuntimeError) as error:
            found[kind] = {"refused": told(str(error))}
    return found


def told(reason):
    """Returns a refusal without what differs from run to run."""
    reason = re.sub(r"\S*/\.keras_kd-tmp-\S*/", "", " ".join(reason.split()))
    return reason.split(" Received: WARNING")[0][:400]


def to_markdown(results: dict) -> str:
    reasons: list[str] = []

    def cell(found):
        if "refused" not in found:
            share = found["kept"]
            text = "constant" if share is None else f"{100 * share:.1f} %"
            return f"{text}, {found['bytes'] / 1024:,.0f} KiB"
        reason = found["refused"]
        if reason not in reasons:
            reasons.append(reason)
        return f"refused ({reasons.index(reason) + 1})"

    table = [
        f"| {name} | " + " | ".join(cell(found[kind]) for kind in KINDS) + " |"
        for name, found in results["models"].items()
    ]
    return "\n".join(
        [
            "# Architectures as files",
            "",
            "What each file keeps of its model's own answers, and its size. Of "
            "classes that is the share of equal decisions, of other outputs "
            f"R2; on {ROWS} examples that were not used for int8's ranges. "
            "Every file was verified as `kd.export` does.",
            "",
            "| model | " + " | ".join(KINDS) + " |",
            "|---|" + "---|" * len(KINDS),
            *table,
            "",
            *(f"{n}. {reason}" for n, reason in enumerate(reasons, 1)),
            *([""] if reasons else []),
            "All weights but those of the small CNN are random, their batch "
            "normalisations fitted to one batch; so these are hard cases for "
            "int8: random models decide by small margins. The models of "
            "keras.applications take pictures of 64 x 64. BERT-tiny needs "
            "`pip install keras-hub`.",
            "",
            footnote(results),
            "",
        ]
    )


def main(names: list[str]) -> None:
    before = figures_before(SCRIPT).get("models", {}) if names else {}
    for name in names or (list(MODELS)[:2] if FAST else MODELS):
        began = time.perf_counter()
        before[name] = measure(name)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        models = {n: before[n] for n in MODELS if n in before}
        results = {**circumstances(SCRIPT), "models": models}
        keep(SCRIPT, results, to_markdown(results))


if __name__ == "__main__":
    main(sys.argv[1:])
