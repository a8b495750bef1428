# SPDX-License-Identifier: Apache-2.0
"""The fresh process of `verify`: load a file, answer one batch, refuse more.

Run by its path, `python serve.py MODEL REQUEST.npz ANSWER.npz`, so that
neither Keras nor TensorFlow's Python is there to help the file along. Further
pairs REQUEST.npz ANSWER.npz are warm-up records, answered first, as a server
does. A bad file may abort the process; the last line on standard output then
tells what it was doing.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys

import numpy as np

# Where a warm-up request says whom it asks; no input can be called so.
SIGNATURE = "/signature"


def _serve_saved_model(path, request, warmups):
    from c_api import DTYPES
    from c_api import SavedModelSession
    from litert_runner import name_inputs
    from litert_runner import values_as

    session = SavedModelSession(path)
    for index, warmup in enumerate(warmups):
        _say(f"answering warm-up record {index}")
        signature = str(warmup.pop(SIGNATURE))
        yield session.run(warmup, signature)
    request = {
        name: values_as(
            np.asarray(array),
            np.dtype(DTYPES.get(session.inputs[name].dtype, bytes)),
            f"Input `{name}`",
        )
        for name, array in name_inputs(request, set(session.inputs)).items()
    }
    signatures = _asked(session)
    for signature in signatures:
        _check_batch_is_free(session, signature)
    _answer_by_all(session, signatures, request)
    for signature in signatures:
        infos = session.signature(signature).inputs
        _check_refuses(
            functools.partial(session.run, signature=signature),
            request,
            _shapes(infos),
            refused=("shape", "dtype", "text"),
        )
    # Once more: what was refused must have left no trace.
    yield _answer_by_all(session, signatures, request)


def _answer_by_all(session, signatures, request):
    answers = {}
    for signature in signatures:
        prefix = "" if signature == "serving_default" else f"{signature}:"
        _say(f"answering the batch by '{signature}'")
        for name, array in session.run(request, signature).items():
            answers[prefix + name] = array
    return answers


def _asked(session):
    """Returns the signatures that take what serving_default takes."""
    wanted = {name: info.dtype for name, info in session.inputs.items()}
    return ["serving_default"] + [
        name
        for name, signature in sorted(session.signatures.items())
        if name not in ("serve", "serving_default")
        and wanted == {k: v.dtype for k, v in signature.inputs.items()}
    ]


def _shapes(infos):
    return {
        name: None
        if info.tensor_shape.unknown_rank
        else tuple(dim.size for dim in info.tensor_shape.dim)
        for name, info in infos.items()
    }


def _check_batch_is_free(session, signature):
    definition = session.signature(signature)
    infos = {**definition.inputs, **definition.outputs}
    for name, shape in _shapes(infos).items():
        if shape is not None and shape[:1] != (-1,):
            raise RuntimeError(
                f"The batch dimension of `{name}` is not free: its shape is "
                f"{shape}, expected (-1, ...)."
            )


def _check_refuses(run, request, shapes, refused):
    from malformed import hostile_requests

    right = run({name: array[:1] for name, array in request.items()})
    for hostile in hostile_requests(request, shapes):
        _say(f"answering {hostile.what}")
        try:
            answer = run(hostile.request)
        except (RuntimeError, ValueError):
            continue
        # An input that the model does not use does not matter.
        unused = all(np.array_equal(answer[k], right[k]) for k in right)
        if hostile.kind in refused and not unused:
            raise RuntimeError(
                f"It answered {hostile.what}, instead of refusing it."
            )


def _serve_tflite(path, request, warmups):
    from litert_runner import LiteRTRunner
    from litert_runner import name_inputs

    runner = LiteRTRunner(path)
    request = name_inputs(request, set(runner.inputs))
    _say("answering the batch")
    runner(request)
    # A file with a fixed batch size is asked piece by piece.
    shapes = {n: (-1, *t.shape[1:]) for n, t in runner.inputs.items()}
    _check_refuses(
        runner,
        request,
        shapes,
        # Numbers that fit are converted.
        refused=("shape", "text"),
    )
    _say("answering the batch again")
    yield runner(request)


def _say(text):
    print(text, flush=True)


def main(path: str, *files: str) -> None:
    """Loads `path`, answers the requests, then checks that it refuses."""
    requests = []
    for file in files[::2]:
        with np.load(file) as arrays:
            requests.append(dict(arrays))
    request, *warmups = requests
    request = request.get("", request)
    answer_path, *warmup_paths = files[1::2]
    from array_files import save_arrays

    _say("loading")
    from file_formats import TFLITE
    from file_formats import format_of

    tflite = format_of(path) == TFLITE
    serve = _serve_tflite if tflite else _serve_saved_model
    answers = serve(path, request, warmups)
    for target, answer in zip(
        [*warmup_paths, answer_path], answers, strict=True
    ):
        save_arrays(target, answer)
    _say("done")


if __name__ == "__main__":
    # What needs nothing of this package is imported without it.
    sys.path.append(str(pathlib.Path(__file__).parents[2] / "core"))
    from passing_faults import telling_the_parent
    from processes import end_with

    end_with(os.getppid())
    with telling_the_parent():
        main(*sys.argv[1:])
