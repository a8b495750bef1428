# SPDX-License-Identifier: Apache-2.0
"""How a teacher answers: by its own call, or a faster one that agrees."""
