# SPDX-License-Identifier: Apache-2.0
"""What is searched, and who proposes it."""
