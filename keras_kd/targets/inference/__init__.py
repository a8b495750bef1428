# SPDX-License-Identifier: Apache-2.0
"""How a teacher answers, by the fastest engine that agrees."""
