# SPDX-License-Identifier: Apache-2.0
"""What every room needs: records, taps, output heads, progress."""
