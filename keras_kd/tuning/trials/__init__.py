# SPDX-License-Identifier: Apache-2.0
"""How a trial is run, kept and handed over."""
