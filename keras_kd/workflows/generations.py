# SPDX-License-Identifier: Apache-2.0
"""Chains of teachers: the student of one training teaches the next."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras

from keras_kd.core.records import StageRecord
from keras_kd.core.type_aliases import DataLike
from keras_kd.core.type_aliases import TeacherLike
from keras_kd.distillers import unlabelled
from keras_kd.models.ensemble import ensemble
from keras_kd.workflows.chain import Chain


@dataclasses.dataclass(frozen=True)
class Generations:
    """The students of `born_again`, the oldest first.

    Args:
        students: One trained model per generation.
        records: What is known of each, in the same order.
        best: The student that is best on validation; of equals the older.
        binary: Whether the outputs are independent yes/no units.

    Example:

    ```python
    result = kd.born_again(build_student, data, generations=2, epochs=1)
    result.ensemble().predict(x)
    ```
    """

    students: list[keras.Model]
    records: list[StageRecord]
    best: keras.Model
    binary: bool = False

    def ensemble(self) -> keras.Model:
        """Returns all generations as one model: their mean probability.

        It costs as much as all of them together, and is often better than
        the best of them: a fair baseline for it.
        """
        return ensemble(self.students, self.binary)


def born_again(
    build_student: Callable[[], keras.Model],
    data: DataLike,
    generations: int = 3,
    *,
    teacher: TeacherLike | None = None,
    temperature: float = 1.0,
    alpha: float = 0.5,
    patience: int = 1,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    verbose: int = 1,
    **training: Any,
) -> Generations:
    """Trains one architecture over and over, each time from the last.

    Self-distillation over generations (born-again networks). The first
    learns from the labels (or from `teacher`), each later one also from the
    one before, which may have the same size. Every generation starts from new
    weights (seed `seed + number`) and takes the same number of steps.

    A later generation wins by luck too: compare the result with as many
    trainings from labels alone, and their ensemble, before you believe in it.

    Args:
        build_student: Returns a new model.
        data: Generations are chosen on its `validation` split; figures of
            `test` are only recorded.
        generations: How many to train at most, the first included.
        teacher: What teaches the first one; `None` for labels alone.
        temperature: Softening T; the paper uses 1.
        alpha: Weight of the teacher; 0.5 weighs it as much as the labels.
        patience: Stop after so many generations without a better one.
        seed: Seed of the first generation.
        directory: Where finished generations are kept: the same call goes on
            from there after a crash. `None`: in memory only.
        verbose: 0 prints nothing, else there are progress bars.
        **training: What `keras_kd.training.trainer.train` takes: `epochs`,
            `batch_size`, `learning_rate`, `loss`, `distillation_losses`,
            and `task`, `headline` (see `compress`).

    Returns:
        A `Generations`: `students`, `records`, `best` and `ensemble()`.

    Raises:
        ValueError: If `generations` or `patience` is below 1.
        OSError: If `directory` cannot be written to.

    Example:

    ```python
    result = kd.born_again(build_student, data, generations=2, epochs=1)
    result.best.save("student.keras")
    ```

    Reference: https://arxiv.org/abs/1805.04770
    """
    for name, given in (("generations", generations), ("patience", patience)):
        if given < 1:
            raise ValueError(
                f"`{name}` must be at least 1. Received: {name}={given}"
            )
    options = {"temperature": temperature, "alpha": alpha, **training}
    chain = Chain(data, directory, verbose, **options)
    students, records, values = [], [], []
    for number in range(generations):
        student, record, value = chain.train(
            teacher,
            build_student,
            key=f"generation-{number}",
            title=f"generation {number}",
            seed=seed + number,
        )
        students.append(student)
        records.append(record)
        values.append(value)
        best = values.index(max(values))
        if number - best >= patience:
            break
        teacher = student
    return Generations(
        students,
        records,
        students[best],
        unlabelled.is_binary(training.get("loss")),
    )


def teach_through(
    teacher: TeacherLike,
    builders: Iterable[Callable[[], keras.Model]],
    data: DataLike,
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    verbose: int = 1,
    **training: Any,
) -> tuple[keras.Model, list[StageRecord]]:
    """Distils down a chain of models, from large to small.

    Teacher assistants: where a student is far smaller than its teacher, a
    model of a size between them may teach it better. The students all have
    the same seed, so the last is the same model, before training, as one
    taught by `teacher` directly (`builders` with it alone): compare the two.

    Args:
        teacher: A trained `keras.Model` or a `Teacher`.
        builders: Functions that return a new model, in the order of the
            chain; the last builds the student.
        data: What every link learns from; its best epoch is chosen on
            `validation`.
        temperature: See `Distiller`.
        alpha: See `Distiller`.
        seed: Seed of every link.
        directory: Where finished links are kept: the same call goes on from
            there after a crash. `None`: in memory only.
        verbose: 0 prints nothing, else there are progress bars.
        **training: What `keras_kd.training.trainer.train` takes: `epochs`,
            `batch_size`, `learning_rate`, `loss`, `distillation_losses`,
            and `task`, `headline` (see `compress`).

    Returns:
        The last student, and a record of every link.

    Raises:
        ValueError: If there is no teacher or no builder.
        OSError: If `directory` cannot be written to.

    Example:

    ```python
    student, records = kd.teach_through(
        teacher, [build_student, build_student], data, epochs=1
    )
    ```

    Reference: https://arxiv.org/abs/1902.03393
    """
    builders = [builders] if callable(builders) else list(builders)
    if teacher is None or not builders:
        missing = "teacher" if teacher is None else "builders"
        raise ValueError(
            "A chain needs a teacher and at least one function that builds a "
            f"student. Received: {missing}={locals()[missing]!r}"
        )
    options = {"temperature": temperature, "alpha": alpha, **training}
    chain = Chain(data, directory, verbose, **options)
    records = []
    for number, build in enumerate(builders, start=1):
        teacher, record, _ = chain.train(
            teacher,
            build,
            key=f"link-{number}",
            title=f"link {number} of {len(builders)}",
            seed=seed,
        )
        records.append(record)
    return teacher, records
