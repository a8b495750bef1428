# SPDX-License-Identifier: Apache-2.0
"""export(): a trained model becomes files that are proven to serve it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from collections.abc import Sequence

import keras

from keras_kd import tasks
from keras_kd.core import progress
from keras_kd.core.folders import telling_of_a_full_disk
from keras_kd.core.records import StageRecord
from keras_kd.core.records import file_sha256
from keras_kd.core.type_aliases import Arrays
from keras_kd.core.type_aliases import Split
from keras_kd.data.splits import Data
from keras_kd.export.formats.litert import write_tflite
from keras_kd.export.formats.saved_model import full_precision
from keras_kd.export.formats.saved_model import write_endpoints
from keras_kd.export.formats.saved_model import write_saved_model
from keras_kd.export.formats.tolerance import tolerance_of
from keras_kd.export.formats.variants import FORMATS
from keras_kd.export.formats.variants import check_formats
from keras_kd.export.formats.variants import file_name
from keras_kd.export.formats.variants import is_judged
from keras_kd.export.formats.variants import real_examples
from keras_kd.export.formats.variants import variants
from keras_kd.export.manifest import model_files
from keras_kd.export.manifest import write_manifest
from keras_kd.export.publishing.release import files_of
from keras_kd.export.publishing.release import release
from keras_kd.export.publishing.staging import staging
from keras_kd.export.publishing.versions import check_keep
from keras_kd.export.publishing.versions import check_name
from keras_kd.export.publishing.versions import folder_of
from keras_kd.export.serving.serving_files import serving_files
from keras_kd.export.serving.warmup import BATCH_SIZES
from keras_kd.export.serving.warmup import check_batch_sizes
from keras_kd.export.serving.warmup import write_warmup
from keras_kd.export.signatures.answers import LOGITS
from keras_kd.export.signatures.answers import Head
from keras_kd.export.signatures.answers import head_of
from keras_kd.export.signatures.answers import unknown_outputs
from keras_kd.export.signatures.classes import as_settings
from keras_kd.export.signatures.classes import attach_labels
from keras_kd.export.signatures.classes import without_classes
from keras_kd.export.signatures.endpoint import extra_endpoints
from keras_kd.export.signatures.endpoint import make_endpoint
from keras_kd.export.signatures.endpoint import names_without_classes
from keras_kd.export.verification.cost import cost_of
from keras_kd.export.verification.cost import telling_the_cost
from keras_kd.export.verification.expected import expected_answers
from keras_kd.export.verification.golden import write_golden
from keras_kd.export.verification.verify import verify
from keras_kd.quantization.representative import SAMPLES

# Rows that are compared; int8 calibration sees all that it gets.
VERIFIED_ROWS = 8


def export(
    model: keras.Model,
    directory: str | os.PathLike,
    name: str | None = None,
    formats: Sequence[str] = FORMATS,
    quantize: str | Sequence[str | None] | None = None,
    inputs: Arrays | None = None,
    head: Head = None,
    tolerance: float | None = None,
    verbose: int = 1,
    *,
    preprocess: keras.Layer | None = None,
    names: dict[str, str] | None = None,
    labels: Sequence[str] | None = None,
    top_k: int | None = None,
    signatures: dict[str, keras.Model] | None = None,
    warmup: int | Sequence[int] | None = BATCH_SIZES,
    keep: int | None = None,
    calibration: Data | Split | Arrays | None = None,
    samples: int = SAMPLES,
    sparse: bool | None = None,
    task: tasks.Task | Mapping[str, tasks.Task] | None = None,
    identity: str | None = None,
) -> StageRecord:
    """Publishes a model for TensorFlow Serving and for LiteRT.

    Every file is written under a temporary name, loaded in a fresh process
    by the runtime that will serve it, and compared with the model; only if
    all of them pass do they take their final names:

        directory/name/1/               SavedModel, version 1 (then 2, 3, ...)
        directory/name/1/manifest.json  sha256 of its files
        directory/name/1/golden.npz     requests and answers, see verify
        directory/name/1/assets.extra   warm-up records, see write_warmup
        directory/name/serving          for server and clients: SERVING.md
        directory/name/name.tflite      LiteRT, replaced by each export
        directory/name/name.tflite.{manifest.json,golden.npz}

    A list of choices for `quantize` makes one .tflite file for each, named
    `name.int8.tflite` and so on. They have batch size 1, as LiteRT needs for
    recurrent layers and for its fast kernels; the SavedModel takes any batch.

    Args:
        model: Any Keras model that is built: functional, sequential, or
            subclassed and called before.
        directory: Folder of all exported models, such as `"saved_models"`.
        name: Name of this one: letters, digits, `_` and `-`. Defaults to the
            model's own name.
        formats: One or both of `"saved_model"` and `"tflite"`.
        quantize: For the .tflite file: `None` (float32) or a kind, see
            `export_formats`; or a list. The SavedModel stays as it is.
        inputs: A batch of what the model (or `preprocess`) takes; the
            answers to its first rows are compared. Needed for `"int8"` (some
            hundred real examples), for models that leave sizes open and for
            subclassed ones of integer inputs; else defaults to a random
            batch.
        head: What the model's output is: `"logits"`, `"probabilities"`,
            `"yes_no"` or `"regression"`, or a dict of them by output name;
            `None` asks `task`, or else the last activation and the loss, see
            `write_saved_model`.
        tolerance: Largest difference allowed, relative to the spread of the
            model's own answers. Defaults to that of the format, see
            `export_formats`; at least 1e-2 for models that compute in
            float16. An int8 file must also keep 1 - `tolerance` of what the
            model answers to the calibration inputs: decisions, or R2.
        verbose: 0 prints nothing, else a line per step.
        preprocess: Layer or model to put before the model, in the graph.
        names: New names of inputs and outputs, by the old ones.
        labels: Names of the classes: the SavedModel answers with the
            likeliest of them, the .tflite file holds them as `labels.txt`.
        top_k: How many classes the SavedModel answers with. Of these five
            `write_saved_model` says more.
        signatures: Further signatures of the SavedModel, models by name.
        warmup: Batch sizes of the SavedModel's warm-up records, or `None`.
        keep: How many sound versions of the SavedModel to keep, this one
            included; older ones are removed. `None` keeps all.
        calibration: `Data` or a split whose inputs, drawn from a fixed seed,
            teach int8 the ranges of activations. Default: all of `inputs`.
        samples: How many examples to draw for it.
        sparse: Whether kernels are stored sparsely, see `write_tflite`.
        task: What outputs and labels mean, see `keras_kd.tasks`; of several
            outputs a dict. Scores of classes are exported as `logits` and
            `probabilities`, anything else as `output`. Where `calibration`
            has labels, an int8 file must also keep 1 - `tolerance` of the
            task's headline, where more is better.
        identity: Name and version of what the files are made from: where the
            newest version has the same, no other is added.

    Returns:
        A `StageRecord`. Its metrics hold for each format the size in bytes
        and the largest absolute difference from the model, for int8 also the
        share of each output that is `kept`, and the `headlines` of model and
        file where there are a task and labels; its artefacts are relative to
        `directory`.

    Raises:
        ValueError: If an option is wrong, or a file does not verify
            (`VerificationError`). Nothing is published then.
        OSError: If the folder cannot be written to, or its disk is full.
        RuntimeError: If the model does not convert to LiteRT.

    Example:

    ```python
    record = kd.export(student, "saved_models", name="student")
    record.metrics["saved_model"]["max_difference"]
    ```
    """
    started = time.time()
    name = check_name(model.name if name is None else name)
    formats = check_formats(formats)
    kinds = variants(quantize)
    check_keep(keep)
    if isinstance(task, Mapping):
        task = tasks.Composite(task, headline=next(iter(task), None))
    batch_sizes = check_batch_sizes(warmup)
    base_dir = folder_of(directory, name)
    ranged = any(map(is_judged, kinds.values()))
    drawn, drawn_labels = real_examples(ranged, inputs, calibration, samples)
    inputs = drawn if inputs is None else inputs

    def say(text):
        progress.say(f"export {name}: {text}", verbose)

    common = {"inputs": inputs, "preprocess": preprocess, "names": names}
    known = head_of(model, head, task)
    answering = {"head": known, "labels": labels, "top_k": top_k}
    endpoint = make_endpoint(model, **common, **answering)
    extras = extra_endpoints(endpoint, signatures, **common)
    lite = {**common, "head": known, "names": names_without_classes(names)}
    batch = endpoint.request(inputs)
    sample = {key: array[:VERIFIED_ROWS] for key, array in batch.items()}
    representative = batch if drawn is inputs else endpoint.request(drawn)
    rows = len(next(iter(representative.values())))
    allowed = {
        kind: tolerance_of(choice, tolerance, model, preprocess)
        for kind, choice in {"saved_model": None, **kinds}.items()
    }
    answers = expected_answers(
        endpoint, sample, allowed["saved_model"], inputs is None, say
    )
    expected = dict.fromkeys(kinds, without_classes(answers, names))
    # Where nobody said what the outputs are, the model itself is asked.
    asked = model if head is task is labels is top_k is None else None
    if unknown_outputs(asked, {LOGITS} & {*answers}):
        say(
            "nothing says what the output is; taken for class logits. Pass "
            "`head` or `task` if it is something else"
        )
    expected["saved_model"] = answers
    for key, extra in extras.items():
        for output, array in extra.expected(sample).items():
            answers[f"{key}:{output}"] = array
    metrics = {}
    with (
        telling_of_a_full_disk(base_dir),
        staging(base_dir) as folder,
        staging(base_dir) as lite_folder,
    ):
        staged = {"saved_model": folder} if "saved_model" in formats else {}
        if "saved_model" in formats:
            say("writing the SavedModel")
            parts = [preprocess, model, *(signatures or {}).values()]
            write_endpoints({"serve": endpoint, **extras}, folder, parts)
            if batch_sizes:
                served = ("serving_default", *extras)
                write_warmup(folder, sample, batch_sizes, name, served)
        if "tflite" in formats:
            with full_precision(model, preprocess):
                lite_source = lite_folder / "saved_model"
                write_saved_model(model, lite_source, batch_size=1, **lite)
            for kind, choice in kinds.items():
                say(f"converting to LiteRT (quantize={choice})")
                staged[kind] = write_tflite(
                    lite_source,
                    lite_folder / file_name(name, kind),
                    quantize=choice,
                    representative=representative,
                    sparse=sparse,
                )
                if labels is not None:
                    attach_labels(staged[kind], labels)
        for kind, path in staged.items():
            digest = file_sha256(path) if kind in kinds else ""
            checked = (sample, expected[kind], allowed[kind])
            write_golden(path, *checked, digest)
            write_manifest(path, identity)
            say(f"verifying the {kind} in a fresh process")
            metrics[kind] = {
                "bytes": sum(f.stat().st_size for f in model_files(path)),
                "tolerance": allowed[kind],
            }
            choice = kinds.get(kind)
            if kind in kinds:
                metrics[kind]["quantize"] = choice
            if is_judged(choice):
                given = (representative, drawn_labels)
                metrics[kind] |= cost_of(
                    path, endpoint, *given, known, task, asked
                )
            shares = metrics[kind].get("kept", {})
            with telling_the_cost(choice, shares, allowed[kind]):
                metrics[kind]["max_difference"] = verify(path, *checked)
            say(
                f"{kind}: {metrics[kind]['bytes']:,} bytes, differs by "
                f"{metrics[kind]['max_difference']:.2g} at most"
            )
        texts = serving_files(base_dir, endpoint.flat, [*answers], batch_sizes)
        published = release(staged, base_dir, keep, texts, say)
    if "saved_model" in formats:
        metrics["saved_model"]["version"] = int(published["saved_model"].name)
    artefacts = {
        path.relative_to(directory).as_posix(): file_sha256(path)
        for path in files_of(published)
    }
    return StageRecord(
        stage="export",
        name=name,
        settings={
            "formats": formats,
            "quantize": quantize if "tflite" in kinds else list(quantize),
            "calibrated_on": rows if ranged else None,
            "sparse": sparse,
            "head": head,
            "preprocess": None if preprocess is None else preprocess.name,
            "names": names,
            "labels": as_settings(labels),
            "top_k": top_k,
            "signatures": sorted(extras),
            "warmup": list(batch_sizes),
        },
        metrics=metrics,
        artefacts=artefacts,
        seconds=time.time() - started,
    )
