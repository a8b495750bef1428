# SPDX-License-Identifier: Apache-2.0
"""How a version gets into its place, and out of it."""
