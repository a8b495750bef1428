# SPDX-License-Identifier: Apache-2.0
"""How a target meets its sample."""
