# SPDX-License-Identifier: Apache-2.0
"""Structured pruning: whole channels go, and an ordinary model remains.

One step per file: `trace` finds which channels are one by the rule of each
layer (`rules`, `kinds`), `groups` says which compete, `scores` which matter
least, `surgery` builds the smaller model, and `stage` is what users call.
"""

from keras_kd.pruning.structured.stage import prune_channels

__all__ = ["prune_channels"]
