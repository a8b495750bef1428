# SPDX-License-Identifier: Apache-2.0
"""One pass over a data set: every shard is kept, passed over, or written.

What a sample gets does not depend on where a pass began: batches never
cross the border of a shard, so a teacher sees the same batches whether the
pass is the first, a resumed one, or one of several machines'.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import pathlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.core import output_kinds
from keras_kd.core.checksummed_json import DamagedFileError
from keras_kd.data.splits import compile_for
from keras_kd.targets.build.checks import check_finite
from keras_kd.targets.build.checks import class_logits
from keras_kd.targets.build.checks import same_samples
from keras_kd.targets.hashing.fingerprint import fingerprints
from keras_kd.targets.store.encodings import Dense
from keras_kd.targets.store.options import describe
from keras_kd.targets.store.shards import Shard
from keras_kd.targets.store.shards import name_of
from keras_kd.targets.store.shards import shards_on_disk
from keras_kd.targets.store.shards import write_shard
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.ensemble import EnsembleTeacher
from keras_kd.teachers.frozen import FrozenTeacher


def teacher_call(teacher: Teacher, taps: tuple[str, ...], x: Any) -> Callable:
    """Returns a compiled function `x -> {tap: tensor}`, as they are stored.

    Class scores come as logits, where it is certain that they are some.

    Args:
        teacher: The teacher to ask.
        taps: What to ask it for.
        x: A batch of inputs, or its specs: tells shapes and dtypes.
    """
    teacher = teacher.ready_for(taps)

    def call(x):
        found = teacher(x)
        # Not by map_structure: it would lose what Keras keeps of a softmax.
        return {
            tap: output_kinds.as_target(found[tap], teacher.kind_of(tap))
            for tap in taps
        }

    return compile_for(call, x, autograph=not _is_keras(teacher))


def _is_keras(teacher):
    """Whether it is Keras models all through, which run without AutoGraph."""
    if type(teacher) is EnsembleTeacher:
        return all(map(_is_keras, teacher.teachers))
    return isinstance(teacher, FrozenTeacher) and not teacher.preprocess


def target_keys(teacher: Teacher, taps: tuple[str, ...]) -> dict:
    """Returns what `teacher_call` gives of taps; `None` where unknown."""
    teacher = teacher.ready_for(taps)
    return {tap: output_kinds.target_key(teacher.kind_of(tap)) for tap in taps}


@dataclasses.dataclass
class Labelling:
    """Turns batches into shards.

    Args:
        folder: Where the shards go.
        choose: Returns the `Engine` that answers for the teacher, given the
            name of the one that shards on disk were labelled with, if any.
            Called only if there is something to label.
        encodings: How each tap is stored.
        shard_size: Samples in a shard.
        views: Makes the augmented views of a batch: it has a length and
            `apply(x, view, fingerprints)`. `None`: samples as they are.
        part: `(i, n)`: write only every n-th shard, from the i-th on.
        say: What to tell the user.
        start: Number of the first shard and place of its first sample.
        closed: Samples of each shard of a finished cache, by number: none
            is added.
        output_key: What the teacher's output is; see `target_keys`.
        shards_ahead: How many shards may be begun before the first of them
            is written, where the answers come from other processes.
    """

    folder: pathlib.Path
    choose: Callable
    encodings: dict[str, Any]
    shard_size: int
    views: Any = None
    part: tuple[int, int] = (0, 1)
    say: Callable[[str], None] = print
    start: tuple[int, int] = (0, 0)
    closed: dict[int, int] | None = None
    output_key: str | None = None
    shards_ahead: int = 0

    def __post_init__(self):
        self.samples = 0
        self.shards: list[Shard] = []
        self.digest = hashlib.sha256()

    def run(self, batches, advance: Callable[[int], None]) -> None:
        """Goes through the data once.

        Args:
            batches: What `batches_of` returns.
            advance: Told of each batch how many samples it held.
        """
        numbers = itertools.count(self.start[0])
        firsts = itertools.count(self.start[1], self.shard_size)
        batches, begun = iter(batches), collections.deque()
        # One batch ahead, so that no shard is begun at the end of the data.
        for ahead in batches:
            stream = _up_to(itertools.chain([ahead], batches), self.shard_size)
            place = next(numbers), next(firsts)
            begun.append(self._begin_shard(*place, stream, advance))
            while len(begun) > self.shards_ahead:
                self._end_shard(begun.popleft())
        while begun:
            self._end_shard(begun.popleft())

    def _end_shard(self, end):
        marks = end()
        self.digest.update(marks.tobytes())
        self.samples += len(marks)

    def _begin_shard(self, number, first, stream, advance):
        """Returns a function that ends a shard.

        It returns the fingerprints of the shard's samples.
        """
        index, count = self.part
        mine = number % count == index
        kept = self._kept(number) if mine else None
        if kept is not None or not mine:
            found = []
            for _, marks in stream:
                found.append(marks.numpy())
                advance(len(marks))
            found = np.concatenate(found)
            if mine:
                same_samples(kept, found, first)
            return lambda: self._pass_over(kept, found)
        if self.closed is not None and number not in self.closed:
            raise ValueError(
                f"The data set continues after the {first} samples that the "
                f"finished cache {self.folder.parent} holds. Call "
                "`extend(teacher, dataset)` to label the new ones too."
            )
        answered = self.engine.answers(self._seen(stream, advance))
        return lambda: self._write(number, first, answered)

    def _pass_over(self, kept, marks):
        self.shards += [] if kept is None else [kept]
        return marks

    def _write(self, number, first, answered):
        batches, place = [], first
        each = 1 if self.views is None else len(self.views)
        for views in iter(lambda: [*itertools.islice(answered, each)], []):
            batches.append(self._fields(views, place))
            place += len(batches[-1]["fingerprint"])
        fields = {
            name: np.concatenate([batch[name] for batch in batches])
            for name in batches[0]
        }
        expected = (self.closed or {}).get(number, place - first)
        if place - first != expected:
            raise ValueError(
                f"{self.folder / name_of(number)} is damaged and held "
                f"{expected} samples. Received: {place - first} at that place "
                "of the data set. Give the data set that was labelled."
            )
        facts = {
            "encodings": describe(self.encodings),
            "labelled_with": self.engine.description,
        }
        written = write_shard(self.folder, number, first, fields, facts)
        self.shards.append(written)
        return fields["fingerprint"]

    @functools.cached_property
    def engine(self):
        """What answers for the teacher: what did before, if it did."""
        for number in shards_on_disk(self.folder):
            held = self._kept(number)
            if held is not None:
                return self.choose(held.facts["labelled_with"]["engine"])
        return self.choose(None)

    def _kept(self, number):
        path = self.folder / name_of(number)
        if not path.is_dir():
            return None
        try:
            shard = Shard(path)
            shard.check()
        except DamagedFileError as error:
            self.say(f"labelling shard {path.name} again. {error}")
            return None
        return shard

    def _seen(self, stream, advance):
        """Yields what the teacher is asked, view after view of a batch.

        As pairs of the inputs and, to go with the answers, the fingerprints
        of the samples and, if there are several, of their views.
        """
        for x, marks in stream:
            marks = marks.numpy()
            if self.views is None:
                yield x, (marks, None)
            for number in range(len(self.views or ())):
                view = self.views.apply(x, number, marks)
                yield view, (marks, fingerprints(view).numpy())
            advance(len(marks))

    def _fields(self, views, place):
        """Returns what is stored of a batch.

        Args:
            views: Answers to each view of it, with what `_seen` gave it.
            place: Place of its first sample in the data.
        """
        answers, notes = zip(*views, strict=True)
        marks, of_views = zip(*notes, strict=True)
        fields = {"fingerprint": marks[0]}
        if self.views is not None:
            fields["view_fingerprint"] = np.stack(of_views, axis=1)
        stored = stored_fields(self.encodings, answers, self.output_key, place)
        return {**fields, **stored}


def stored_fields(
    encodings: dict[str, Any],
    answers: Sequence[dict[str, Any]],
    output_key: str | None,
    place: int,
) -> dict[str, np.ndarray]:
    """Returns what is stored of a batch, by field.

    Args:
        encodings: How each tap is stored.
        answers: To each view of the batch, as `{tap: array}`.
        output_key: What the teacher's output is; see `target_keys`.
        place: Place of its first sample in the data.

    Raises:
        ValueError: If an answer is NaN or infinity.
    """
    fields = {}
    for tap_number, (tap, encoding) in enumerate(encodings.items()):
        values = [np.asarray(answer[tap], "float32") for answer in answers]
        values = np.stack(values, axis=1)
        check_finite(values, tap, place)
        if not isinstance(encoding, Dense):
            values = class_logits(values, output_key)
        for name, array in encoding.fields(values).items():
            fields[f"tap{tap_number}.{name}"] = array
    return fields


def _up_to(batches, count: int) -> Iterator:
    """Yields batches until they hold `count` samples."""
    for x, marks in batches:
        yield x, marks
        count -= len(marks)
        if count <= 0:
            return
