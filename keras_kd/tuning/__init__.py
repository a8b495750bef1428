# SPDX-License-Identifier: Apache-2.0
"""Searching the temperature, alpha and whatever else is open."""
