# SPDX-License-Identifier: Apache-2.0
"""Options: what a cache stores, as it was asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_kd.core.output_kinds import check_outputs
from keras_kd.targets.store.encodings import Dense
from keras_kd.targets.store.encodings import Sampled
from keras_kd.targets.store.encodings import TopK

AUTO = "auto"
_ENCODINGS = {one.__name__: one for one in (Dense, TopK, Sampled)}


@dataclasses.dataclass(frozen=True)
class Options:
    """The arguments of `TeacherCache`, checked; see there.

    Raises:
        ValueError: If an option is wrong.
    """

    taps: tuple[str, ...] = ("output",)
    dtype: str = "float16"
    top_k: int | str | None = AUTO
    sampled: int | None = None
    temperature: float = 1.0
    views: int = 1
    seed: int = 0
    shard_size: int = 4096
    outputs: str | dict | None = None

    def __post_init__(self):
        if not self.taps or len(set(self.taps)) != len(self.taps):
            raise ValueError(
                "`taps` must name at least one tap, each once. Received: "
                f"taps={self.taps}"
            )
        for name in ("views", "shard_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: "
                    f"{name}={value!r}"
                )
        check_outputs(self.outputs)
        sparse = [n for n in (self.k, self.sampled) if n is not None]
        if len(sparse) > 1 or (sparse and "output" not in self.taps):
            raise ValueError(
                "Give `top_k` or `sampled`, not both, and 'output' among the "
                "taps: they are for class scores. Received: top_k="
                f"{self.top_k}, sampled={self.sampled}, taps={self.taps}"
            )
        self.encodings()

    @property
    def k(self) -> int | None:
        """The `top_k` that was asked for by number."""
        return None if self.top_k == AUTO else self.top_k

    def encodings(self) -> dict[str, Any]:
        """Returns the encoding of each tap, new: without class counts."""
        found: dict[str, Any] = {tap: Dense(self.dtype) for tap in self.taps}
        if self.k is not None:
            found["output"] = TopK(self.k)
        if self.sampled is not None:
            found["output"] = Sampled(
                self.sampled, self.temperature, seed=self.seed
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the options as plain JSON values."""
        return {**dataclasses.asdict(self), "taps": list(self.taps)}


def describe(of_taps: dict[str, Any]) -> dict[str, Any]:
    """Returns what it takes to make encodings again, as JSON values."""
    return {
        tap: {
            "class_name": type(encoding).__name__,
            "config": encoding.get_config(),
        }
        for tap, encoding in of_taps.items()
    }


def restore(described: dict[str, Any]) -> dict[str, Any]:
    """Returns the encodings that `describe` described."""
    return {
        tap: _ENCODINGS[of_tap["class_name"]](**of_tap["config"])
        for tap, of_tap in described.items()
    }
