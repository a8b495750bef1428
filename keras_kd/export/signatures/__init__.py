# SPDX-License-Identifier: Apache-2.0
"""What a served model takes and gives."""
