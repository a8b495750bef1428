# SPDX-License-Identifier: Apache-2.0
"""The kinds of files, and how each is written."""
