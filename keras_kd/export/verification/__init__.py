# SPDX-License-Identifier: Apache-2.0
"""Whether a file is the model that was measured."""
