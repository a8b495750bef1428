# SPDX-License-Identifier: Apache-2.0
"""From a teacher to a shipped student: `compress`, generations."""
