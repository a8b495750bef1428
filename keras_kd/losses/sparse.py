# SPDX-License-Identifier: Apache-2.0
"""Losses on targets that name a few classes instead of holding them all."""

from __future__ import annotations

GRID = (1.0, 2.0, 4.0, 8.0)
"""Temperatures at which the mass of the unnamed classes is stored."""
