# SPDX-License-Identifier: Apache-2.0
"""Views that can be replayed to the pixel."""
