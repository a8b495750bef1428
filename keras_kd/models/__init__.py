# SPDX-License-Identifier: Apache-2.0
"""Models that are made of models: early exits, ensembles."""
