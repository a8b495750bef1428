# SPDX-License-Identifier: Apache-2.0
"""How a step is computed: one student, or several at once."""
