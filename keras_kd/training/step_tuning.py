# SPDX-License-Identifier: Apache-2.0
"""fastest_step(): how a training step runs fastest here, by measurement."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras

from keras_kd.core.progress import say
from keras_kd.training.step_input import batches_of
from keras_kd.training.step_input import first_batches
from keras_kd.training.step_input import prefetch_speedup
from keras_kd.training.step_input import prefetches
from keras_kd.training.step_race import Setting
from keras_kd.training.step_race import StepRace
from keras_kd.training.step_race import replayed

CANDIDATES = (1, 8, 32)
FASTER = 1.03
"""How many times as fast as the current setting another one has to be."""
INPUT_SHARE = 0.2
"""Share of a step's time from which on the input is worth a word."""


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """What `fastest_step` found; printed, one line.

    Args:
        jit_compile: Whether XLA is to compile the step.
        steps_per_execution: Steps that one call of it is to run.
        speedups: How many times as fast as the model's own setting each
            setting that was measured is, by its name.
        step_seconds: Seconds a step takes as chosen, by its own.
        repaid_after: Steps after which the longer compilation of what was
            chosen is repaid; 0 where it is not longer.
        input_share: Seconds the data set needs for a batch, over those of a
            step; `None` for arrays, which Keras itself prefetches.
        prefetched: Whether the data set ends in `prefetch`; `None` for arrays.
        prefetch_speedup: How many times as fast training is with one added,
            where that was measured.
        left_out: What was not measured and why, and what XLA brings, in words.
        current: The model's own setting, by its name.
        step: What was compiled for it; right until the model is compiled
            again or changed.

    Example:

    ```python
    settings = kd.fastest_step(distiller, (x, y), batch_size=16)
    settings.apply(distiller)
    distiller.fit(x, y, batch_size=16)
    ```
    """

    jit_compile: bool
    steps_per_execution: int
    speedups: dict[str, float]
    step_seconds: float
    repaid_after: int = 0
    input_share: float | None = None
    prefetched: bool | None = None
    prefetch_speedup: float | None = None
    left_out: tuple[str, ...] = ()
    current: str = ""
    step: Callable | None = dataclasses.field(
        default=None, repr=False, compare=False
    )

    def apply(self, model: keras.Model) -> None:
        """Makes a compiled model train so, from its next `fit` on."""
        self.setting.set_on(model)

    @property
    def setting(self) -> Setting:
        """The two numbers alone."""
        return Setting(self.jit_compile, self.steps_per_execution)

    def __str__(self) -> str:
        chosen = str(self.setting)
        others = {k: v for k, v in self.speedups.items() if k != self.current}
        if not others:
            parts = [f"{chosen} kept"]
        elif chosen == self.current:
            figures = ", ".join(f"{k} {v:.2f}x" for k, v in others.items())
            parts = [f"{chosen} kept ({figures})"]
        else:
            parts = [
                f"{chosen} ({self.speedups[chosen]:.2f}x as fast as "
                f"{self.current.removeprefix('steps_per_execution=')})"
            ]
        parts += self.left_out
        if self.repaid_after:
            parts.append(f"repaid after {self.repaid_after:,} steps")
        if self.input_share is not None and self.input_share > INPUT_SHARE:
            parts.append(f"input takes {self.input_share:.0%} of a step's time")
        if self.prefetched:
            parts.append("prefetch kept")
        elif self.prefetch_speedup is not None:
            helps = self.prefetch_speedup > FASTER
            parts.append(
                f"{'add' if helps else 'no need of'} prefetch "
                f"({self.prefetch_speedup:.2f}x)"
            )
        return f"step: {', '.join(parts)}"


def fastest_step(
    model: keras.Model,
    data: Any,
    batch_size: int = 32,
    candidates: Iterable[int] | None = None,
    steps: int = 32,
    exact: bool = True,
    verbose: bool = True,
) -> StepSettings:
    """Measures which settings make a model's training step fastest here.

    A few batches are trained on under each setting, in turn, and everything
    is put back: weights, optimizer, metrics, random state. The model keeps
    its own settings until `StepSettings.apply`. Worth it for a training of
    some thousand steps: it takes a few hundred steps and a trace for each
    setting. With more steps per execution Keras calls callbacks' batch hooks
    (and a guard, which then names a range of batches) once per execution,
    and `steps_per_epoch`, where it is given to `fit`, is rounded up to a
    multiple.

    Args:
        model: A compiled `keras.Model`: a student, `Distiller`,
            `MutualDistiller`, ...
        data: What `fit` is given: arrays `(x, y)`, a batched
            `tf.data.Dataset`, a `PyDataset`, or `Data`. Of arrays the first
            are used. A data set is begun anew for this (once, and twice more
            where prefetching is measured), as by any look at it: where every
            pass is shuffled anew, give a second one made the same way, and
            the training's own stays as it was.
        batch_size: Samples in a step, where `data` holds arrays.
        candidates: Values of `steps_per_execution` to measure beside the
            model's own; 1, 8 and 32 by default.
        steps: Steps in each of the rounds of a measurement.
        exact: Whether to leave out what changes numbers: XLA rounds otherwise
            in the last bits; `steps_per_execution` changes none.
        verbose: Whether to print what was found, in one line.

    Returns:
        The fastest; the model's own unless another is more than 3 % faster.

    Raises:
        ValueError: If the model is not compiled or runs eagerly, or an
            argument is out of range.

    Example:

    ```python
    kd.fastest_step(student, (x, y), batch_size=16).apply(student)
    student.fit(x, y, batch_size=16, epochs=20)
    ```
    """
    candidates = CANDIDATES if candidates is None else tuple(candidates)
    _check(model, candidates, steps)
    dataset, is_stream = batches_of(data, batch_size)
    kept, input_seconds = first_batches(dataset, steps if is_stream else 0)
    current = Setting(model.jit_compile, model.steps_per_execution)
    settings = [current]
    for number in candidates:
        one = dataclasses.replace(current, steps_per_execution=number)
        settings += [one] if one not in settings else []
    with StepRace(model, replayed(kept, dataset.element_spec)) as race:
        race.enter(current)
        failed = {one: _failure(race, one) for one in settings[1:]}
        left_out = [f"{k} left out ({why})" for k, why in failed.items() if why]
        settings = [one for one in settings if not failed.get(one)]
        found = race.run(settings, steps)
        chosen = _fastest(found, current)
        if not exact:
            chosen, words = _with_xla(race, chosen, steps, found)
            left_out.append(words)
        elif not current.jit_compile:
            left_out.append("XLA left out (not exact)")
        seconds = found[chosen][0]
        share = prefetched = speedup = None
        if is_stream:
            share, prefetched = input_seconds / seconds, prefetches(dataset)
            if share > INPUT_SHARE and not prefetched:
                speedup = prefetch_speedup(race, chosen, dataset, steps)
    saved = found[current][0] - seconds
    extra = race.trace_seconds[chosen] - race.trace_seconds[current]
    settings = StepSettings(
        jit_compile=chosen.jit_compile,
        steps_per_execution=chosen.steps_per_execution,
        speedups={str(key): value[1] for key, value in found.items()},
        step_seconds=seconds,
        repaid_after=max(0, math.ceil(extra / saved)) if saved > 0 else 0,
        input_share=share,
        prefetched=prefetched,
        prefetch_speedup=speedup,
        left_out=tuple(left_out),
        current=str(current),
        step=race.step(chosen),
    )
    say(settings, verbose)
    return settings


def _check(model, candidates, steps):
    if not model.compiled:
        raise ValueError(
            "A model must be compiled before its step can be measured. Call "
            f"`compile` first. Received: '{model.name}', not compiled."
        )
    if model.run_eagerly:
        raise ValueError(
            "A model that runs eagerly has no compiled step to measure. "
            f"Compile '{model.name}' without run_eagerly=True."
        )
    if steps < 1 or any(number < 1 for number in candidates):
        raise ValueError(
            "`steps` and `candidates` (values of steps_per_execution) must be "
            f"at least 1. Received: steps={steps}, candidates={candidates}"
        )


def _fastest(found, current):
    best = max(found, key=lambda setting: found[setting][1])
    return best if found[best][1] > FASTER else current


def _failure(race, setting) -> str | None:
    """Enters a setting; returns in words why it cannot be."""
    try:
        race.enter(setting)
    except Exception as error:  # XLA raises what it likes, and none matters
        return str(error).strip().partition("\n")[0][:80] or repr(error)
    return None


def _with_xla(race, chosen, steps, found):
    """Returns the faster of a setting with and without XLA, and words."""
    other = dataclasses.replace(chosen, jit_compile=not chosen.jit_compile)
    failure = _failure(race, other)
    if failure:
        state = "left out" if other.jit_compile else "kept"
        return chosen, f"XLA {state} ({failure})"
    seconds, speedup = race.run([chosen, other], steps)[other]
    found[other] = seconds, found[chosen][1] * speedup
    best = other if speedup > FASTER else chosen
    state = "used" if best.jit_compile else "left out"
    figure = speedup if other.jit_compile else 1 / speedup
    return best, f"XLA {state} ({figure:.2f}x)"
