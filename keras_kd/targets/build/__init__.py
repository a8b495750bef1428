# SPDX-License-Identifier: Apache-2.0
"""How a cache is made, continued and merged."""
