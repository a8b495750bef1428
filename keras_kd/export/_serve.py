# SPDX-License-Identifier: Apache-2.0
"""The fresh process of `verify`: load a file, answer one batch, refuse more.

Run by its path, `python _serve.py MODEL REQUEST.npz ANSWER.npz`, so that
neither Keras nor TensorFlow's Python is there to help the file along. Further
pairs REQUEST.npz ANSWER.npz are warm-up records, answered first, as a server
does. A bad file may abort the process; the last line on standard output then
tells what it was doing.
"""

from __future__ import annotations

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
    from ai_edge_litert.interpreter import Interpreter

    # Read here: the interpreter reports any bad path as "Could not open".
    with open(path, "rb") as file:
        interpreter = Interpreter(model_content=file.read())
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()
    request = _by_name(inputs, details)
    batch_sizes = set()
    for name, detail in details.items():
        array, signature = request[name], detail["shape_signature"]
        fits = array.ndim == len(signature) and all(
            expected in (-1, received)
            for expected, received in zip(
                signature[1:], array.shape[1:], strict=True
            )
        )
        if not fits:
            raise ValueError(
                f"Input `{name}` of {path} has shape {tuple(signature)} (-1: "
                f"any). Received an array of shape {array.shape}."
            )
        request[name] = _to_integers(array, detail)
        batch_sizes.add(int(signature[0]))
    rows = len(next(iter(request.values())))
    size = 1 if batch_sizes == {1} else max(1, rows)
    answers = [
        runner(**{k: array[i : i + size] for k, array in request.items()})
        for i in range(0, max(1, rows), size)
    ]
    return {
        name: _to_reals(np.concatenate([a[name] for a in answers]), detail)
        for name, detail in runner.get_output_details().items()
    }


def _to_integers(array, detail):
    """Returns a request as the file takes it, by its scale if it has one."""
    scale, zero_point = detail["quantization"]
    kind = np.dtype(detail["dtype"])
    if not scale or array.dtype.kind != "f":
        return array.astype(kind)
    limits = np.iinfo(kind)
    values = np.round(array / scale) + zero_point
    return np.clip(values, limits.min, limits.max).astype(kind)


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


def misshapen(request, shapes):
    """Yields copies of a request with one input of a wrong shape each.

    Args:
        request: Arrays by input name.
        shapes: Signature's shape of each input, -1 for any size.
    """
    for name, array in request.items():
        wrong = [array[..., None]]
        if array.ndim:
            wrong.append(array[..., 0])
        for axis, size in enumerate(shapes[name]):
            if size > 0:
                wrong.append(np.concatenate([array, array], axis=axis))
        for changed in wrong:
            yield name, {**request, name: changed}


def _serve_saved_model(path, request, warmups):
    from _c_api import SavedModelSession

    session = SavedModelSession(path)
    for index, warmup in enumerate(warmups):
        _say(f"answering warm-up record {index}")
        signature = str(warmup.pop(SIGNATURE))
        yield session.run(warmup, signature)
    request = _by_name(request, session.inputs)
    answers = {}
    for signature in _asked(session):
        prefix = "" if signature == "serving_default" else f"{signature}:"
        _check_batch_is_free(session, signature)
        _say(f"answering the batch by '{signature}'")
        for name, array in session.run(request, signature).items():
            answers[prefix + name] = array
    yield answers
    for signature in _asked(session):
        _check_refuses(session, signature, request)


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
        name: tuple(dim.size for dim in info.tensor_shape.dim)
        for name, info in infos.items()
    }


def _check_batch_is_free(session, signature):
    definition = session.signature(signature)
    infos = {**definition.inputs, **definition.outputs}
    for name, shape in _shapes(infos).items():
        if not infos[name].tensor_shape.unknown_rank and shape[:1] != (-1,):
            raise RuntimeError(
                f"The batch dimension of `{name}` is not free: its shape is "
                f"{shape}, expected (-1, ...)."
            )


def _check_refuses(session, signature, request):
    shapes = _shapes(session.signature(signature).inputs)
    for name, hostile in misshapen(request, shapes):
        text = f"a request whose `{name}` has shape {hostile[name].shape}"
        _say(f"answering {text}")
        try:
            session.run(hostile, signature)
        except RuntimeError:
            continue
        raise RuntimeError(
            f"It answered {text} where the signature says {shapes[name]}, "
            "instead of refusing it."
        )


def _serve_tflite(path, request, warmups):
    _say("answering the batch")
    yield run_tflite(path, request.get("", request))


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
