# SPDX-License-Identifier: Apache-2.0
"""How targets are kept on the disk."""
