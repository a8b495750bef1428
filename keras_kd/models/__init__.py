# SPDX-License-Identifier: Apache-2.0
"""Models made of models: early exits, ensembles, a teacher's layers."""
