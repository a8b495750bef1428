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
import sys

import numpy as np

# Where a warm-up request says whom it asks; no input can be called so.
SIGNATURE = "/signature"


def run_tflite(path: str | os.PathLike, inputs) -> dict[str, np.ndarray]:
    """Runs a .tflite file by LiteRT's interpreter, through its signature.

    A file with batch size 1 is asked row by row; the rows of its answers are
    put together again. One whose inputs and outputs are int8 is given, and
    gives, real numbers by its scales.

    Args:
        path: A .tflite file with one signature.
        inputs: Arrays `(batch, ...)` by input name, or one array if the file
            has one input.

    Returns:
        Arrays `(batch, ...)` by output name.

    Raises:
        ValueError: If the names or shapes are not those of the signature.
        RuntimeError: If LiteRT cannot load or run the file.

    Example:

    ```python
    run_tflite("student.tflite", {"image": images})["logits"]
    ```
    """
    return _run_tflite(path, _load_tflite(path), inputs)


def _load_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    # Read here: the interpreter reports any bad path as "Could not open".
    with open(path, "rb") as file:
        interpreter = Interpreter(model_content=file.read())
    return interpreter.get_signature_runner()


def _run_tflite(path, runner, inputs):
    details = runner.get_input_details()
    request = _by_name(inputs, details)
    batch_sizes = set()
    for name, detail in details.items():
        array = request[name]
        shape = tuple(int(size) for size in detail["shape_signature"])
        # The interpreter would fit itself to another size, and answer.
        fits = array.ndim == len(shape) and all(
            expected in (-1, received)
            for expected, received in zip(
                shape[1:], array.shape[1:], strict=True
            )
        )
        if not fits:
            raise ValueError(
                f"Input `{name}` of {path} has shape {shape} (-1: any; the "
                f"batch is free). Received an array of shape {array.shape}."
            )
        request[name] = _as_taken(f"`{name}` of {path}", array, detail)
        batch_sizes.add(shape[0])
    counts = {name: len(array) for name, array in request.items()}
    rows = max(counts.values())
    # An interpreter that was given no rows may fail ever after.
    if rows == 0 or set(counts.values()) != {rows}:
        raise ValueError(
            f"All inputs of {path} must have equally many rows, at least one. "
            f"Received: {counts}"
        )
    size = 1 if batch_sizes == {1} else rows
    answers = [
        runner(**{k: array[i : i + size] for k, array in request.items()})
        for i in range(0, rows, size)
    ]
    return {
        name: _to_reals(np.concatenate([a[name] for a in answers]), detail)
        for name, detail in runner.get_output_details().items()
    }


def _as_taken(what, array, detail):
    """Returns an input as the file takes it, by its scale if it has one."""
    scale, zero_point = detail["quantization"]
    kind = np.dtype(detail["dtype"])
    if scale and array.dtype.kind == "f":
        if np.isnan(array).any():
            raise ValueError(
                f"Input {what} is {kind}, which has no NaN. Received NaN."
            )
        limits = np.iinfo(kind)
        values = np.round(array / scale) + zero_point
        return np.clip(values, limits.min, limits.max).astype(kind)
    both_float = array.dtype.kind == kind.kind == "f"
    with np.errstate(all="ignore"):
        # Text that looks like a number would be taken for it.
        taken = array.astype(kind) if array.dtype.kind in "biuf" else None
    if taken is None or not (both_float or np.array_equal(taken, array)):
        raise ValueError(
            f"Input {what} must be {kind}, or values that {kind} can hold. "
            f"Received: {array.dtype}"
        )
    return taken


def _to_reals(array, detail):
    scale, zero_point = detail["quantization"]
    if not scale or array.dtype.kind == "f":
        return array
    return ((array.astype("float32") - zero_point) * scale).astype("float32")


def _by_name(inputs, names):
    """Returns inputs as a dict of arrays; one bare array has a sole name."""
    if not isinstance(inputs, dict):
        inputs = {"": inputs}
    if set(inputs) == {""} and len(names) == 1:
        inputs = {next(iter(names)): inputs[""]}
    if set(inputs) != set(names):
        raise ValueError(
            f"The model takes the inputs {sorted(names)}. "
            f"Received: {sorted(inputs)}"
        )
    return {name: np.asarray(array) for name, array in inputs.items()}


def _serve_saved_model(path, request, warmups):
    from c_api import SavedModelSession
    from malformed import hostile_requests

    session = SavedModelSession(path)
    for index, warmup in enumerate(warmups):
        _say(f"answering warm-up record {index}")
        signature = str(warmup.pop(SIGNATURE))
        yield session.run(warmup, signature)
    request = _by_name(request, session.inputs)
    signatures = _asked(session)
    for signature in signatures:
        _check_batch_is_free(session, signature)
    _answer_by_all(session, signatures, request)
    for signature in signatures:
        infos = session.signature(signature).inputs
        typed = session.typed(request, signature)
        _check_refuses(
            functools.partial(session.run, signature=signature, as_is=True),
            hostile_requests(typed, _shapes(infos)),
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


def _check_refuses(run, requests, refused):
    for hostile in requests:
        _say(f"answering {hostile.what}")
        try:
            run(hostile.request)
        except (RuntimeError, ValueError):
            continue
        if hostile.kind in refused:
            raise RuntimeError(
                f"It answered {hostile.what}, instead of refusing it."
            )


def _serve_tflite(path, request, warmups):
    from malformed import hostile_requests

    runner = _load_tflite(path)
    shapes = {
        name: tuple(int(size) for size in detail["shape_signature"])
        for name, detail in runner.get_input_details().items()
    }
    request = _by_name(request.get("", request), shapes)
    _say("answering the batch")
    _run_tflite(path, runner, request)
    # Rows are asked one by one where the file takes no more at once.
    free = {name: (-1, *shape[1:]) for name, shape in shapes.items()}
    _check_refuses(
        functools.partial(_run_tflite, path, runner),
        hostile_requests(request, free),
        # Numbers that fit are converted.
        refused=("shape", "text"),
    )
    _say("answering the batch again")
    yield _run_tflite(path, runner, request)


def _say(text):
    print(text, flush=True)


def main(path: str, *files: str) -> None:
    """Loads `path`, answers the requests, then checks that it refuses."""
    requests = []
    for file in files[::2]:
        with np.load(file) as arrays:
            requests.append(dict(arrays))
    request, *warmups = requests
    answer_path, *warmup_paths = files[1::2]
    _say("loading")
    tflite = path.endswith(".tflite")
    serve = _serve_tflite if tflite else _serve_saved_model
    answers = serve(path, request, warmups)
    for target, answer in zip(
        [*warmup_paths, answer_path], answers, strict=True
    ):
        np.savez(target, **answer)
    _say("done")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
