# SPDX-License-Identifier: Apache-2.0
"""What lies beside a model for its server and clients."""
