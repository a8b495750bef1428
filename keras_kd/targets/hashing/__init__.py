# SPDX-License-Identifier: Apache-2.0
"""Who is who: of samples, models and functions."""
